"""The U-Net of singing voice separation: strided convolutions over bins and frames, and back, with skips between.

Jansson, Humphrey, Montecchio, Bittner, Kumar and Weyde 2017, "Singing voice separation with deep U-Net convolutional
networks", ISMIR, section 3.1. The paper trains one such network per stem, on one channel; here one gives the
instrumental's mask, whose complement is the vocals', on all channels. Everywhere x is (B, C, F, T): batch, channel,
bin, frame.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from vrtool.errors import RecipeError
from vrtool.model.config import ModelConfig
from vrtool.model.convolution import NORM_MOMENTUM
from vrtool.model.network import Network

# Feature maps of each encoder layer, in multiples of ModelConfig.channels, which is 16 in the paper.
WIDTHS = (1, 2, 4, 8, 16, 32)

# By what bins and frames are divided at the bottom, each encoder layer halving both.
SHRINKAGE = 2 ** len(WIDTHS)

# The first decoder layers, counted from the bottom, drop features in training.
NUM_DROPPING = 3


class EncoderLayer(nn.Module):
    """A convolution over 5 x 5 bins and frames with stride 2, batch norm, leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 5, stride=2, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, momentum=NORM_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, F / 2, T / 2) from (B, in_channels, F, T), both F and T even."""
        return functional.leaky_relu(self.norm(self.convolution(x)), 0.2)


class DecoderLayer(nn.Module):
    """A transposed convolution over 5 x 5 bins and frames with stride 2, batch norm, ReLU, dropout."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.convolution = _doubling_convolution(in_channels, out_channels, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, momentum=NORM_MOMENTUM)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, 2 F, 2 T) from (B, in_channels, F, T)."""
        y: Tensor = self.dropout(functional.relu(self.norm(self.convolution(x))))
        return y


def _doubling_convolution(in_channels: int, out_channels: int, *, bias: bool) -> nn.ConvTranspose2d:
    """Return what undoes the encoder layers' halving: (B, in_channels, F, T) to (B, out_channels, 2 F, 2 T)."""
    return nn.ConvTranspose2d(in_channels, out_channels, 5, stride=2, padding=2, output_padding=1, bias=bias)


class UNet(Network):
    """Magnitudes to the instrumental's mask.

    `encoders` are in the order of the way down, `decoders` in that of the way up; `output` is the last decoder layer,
    which has a sigmoid in place of batch norm and ReLU.
    """

    settings = frozenset({"num_channels", "n_fft", "channels", "dropout", "compression"})

    @classmethod
    def require_buildable(cls, config: ModelConfig) -> None:
        """Raise RecipeError unless the bins can be halved on every layer of the way down."""
        # At the bottom there must be two bins, or the batch norm of a single short crop would have nothing to compare.
        unit = 2 * SHRINKAGE
        if config.n_fft % unit or config.n_fft < 2 * unit:
            raise RecipeError(
                f"n_fft must be a multiple of {unit} from {2 * unit} on, because the U-Net halves its n_fft / 2 bins "
                f"{len(WIDTHS)} times, found {config.n_fft}; 1024 is the paper's"
            )

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        widths = [factor * config.channels for factor in WIDTHS]
        self.encoders = nn.ModuleList(EncoderLayer(*pair) for pair in pairwise([config.num_channels, *widths]))
        self.decoders = nn.ModuleList()
        for index, (width, above) in enumerate(pairwise(reversed(widths))):
            # All but the deepest see the skip of their size beside what comes from below.
            in_channels = width if index == 0 else 2 * width
            self.decoders.append(DecoderLayer(in_channels, above, config.dropout if index < NUM_DROPPING else 0.0))
        self.output = _doubling_convolution(2 * widths[0], config.num_channels, bias=True)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) in [0, 1] from magnitudes of the same shape in [0, 1]; InputError for others."""
        self.require_shape(magnitude)
        num_frames = magnitude.shape[-1]
        # The topmost bin is left out; silence fills the last frames up to what can be halved.
        x = functional.pad(magnitude[:, :, :-1], (0, -num_frames % SHRINKAGE)) ** self.config.compression
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
        x = skips.pop()
        for decoder in self.decoders:
            x = torch.cat((decoder(x), skips.pop()), dim=1)
        mask = self.output(x)[..., :num_frames].float().sigmoid()
        # The topmost bin repeats the one below it.
        return torch.cat((mask, mask[:, :, -1:]), dim=2)
