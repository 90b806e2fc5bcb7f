"""The frame transformer: a U-Net over bins that embeds each frame on its own, with transformers between the frames.

After carperbr's vocal-remover-frame-transformer (May 2022). Features are (B, T, F, C): batch, frame, bin, channel.
Level 0 works on all bins but the topmost, or on those that `fine_bins` leaves of them, each deeper level on half the
bins of the one above it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vrtool.errors import RecipeError
from vrtool.model.config import ModelConfig
from vrtool.model.convolution import Ascent, FrameConvolution
from vrtool.model.frame_slices import frame_by_frame
from vrtool.model.frequency_axis import merged, num_merged_bins, spread
from vrtool.model.layout import frame_features, frame_mask
from vrtool.model.levels import can_be_shared_out, level_bins, level_widths, require_bands_that_fit
from vrtool.model.network import Network
from vrtool.model.recomputation import recomputed
from vrtool.model.transformer import DecoderBlock, EncoderBlock

# How a level calls a block on what it is given: at once, or so that training computes it again.
BlockCall = Callable[..., Tensor]


def _called(block: nn.Module, *inputs: Any) -> Tensor:
    y: Tensor = block(*inputs)
    return y


class EncoderLevel(nn.Module):
    """A level on the way down: frame convolutions, then encoder blocks, each of which adds a channel."""

    def __init__(self, convolutions: list[FrameConvolution], num_bins: int, config: ModelConfig) -> None:
        super().__init__()
        width = convolutions[-1].convolution.out_channels
        self.convolutions = nn.Sequential(*convolutions)
        self.blocks = nn.ModuleList(
            EncoderBlock(width + index, num_bins, config) for index in range(config.num_encoders)
        )
        self.call: BlockCall = _called

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, F / stride, out_channels + num_encoders) from (B, T, F, in_channels)."""
        # Quickly made of large features: what is in between is never kept.
        features = [frame_by_frame(self.convolutions, x)]
        for block in self.blocks:
            features.append(self.call(block, tuple(features)))
        return torch.cat(features, dim=-1)


class DecoderLevel(nn.Module):
    """A level on the way up: decoder blocks, each of which looks at the skip and adds a channel."""

    def __init__(self, width: int, num_bins: int, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            DecoderBlock(width + index, width + config.num_encoders, num_bins, config)
            for index in range(config.num_decoders)
        )
        self.call: BlockCall = _called

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, T, F, width + num_decoders) from (B, T, F, width) and the skip (B, T, F, width + num_encoders)."""
        features = [x]
        for block in self.blocks:
            features.append(self.call(block, tuple(features), skip))
        return torch.cat(features, dim=-1)


class FrameTransformer(Network):
    """Magnitudes to the instrumental's mask.

    Lists of parts are in the order of levels, finest first.
    """

    settings = frozenset(
        {
            "num_channels", "n_fft", "channels", "fine_bins", "num_bands", "feedforward_dim", "num_encoders",
            "num_decoders", "crop_frames", "dropout", "bias", "norm", "position", "compression",
        }
    )  # fmt: skip

    @classmethod
    def require_buildable(cls, config: ModelConfig) -> None:
        """Raise RecipeError unless every level's bins can be shared out evenly among the bands."""
        if config.fine_bins == 0:
            require_bands_that_fit(config)
        elif not can_be_shared_out(_num_bins(config), config.num_bands):
            raise RecipeError(
                f"fine_bins = {config.fine_bins} of n_fft / 2 = {config.n_fft // 2} bins leave {_num_bins(config)}, "
                f"which must be a multiple of 16 x num_bands = {16 * config.num_bands}; choose fewer bands or other "
                "fine_bins"
            )

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.requires_frames = config.crop_frames if config.position == "ancestor" else None
        widths = level_widths(config)
        bins = level_bins(_num_bins(config))
        self.encoders = nn.ModuleList([_first_level(widths[0], config)])
        for (above, width), num_bins in zip(pairwise(widths), bins[1:], strict=True):
            self.encoders.append(_descent(above + config.num_encoders, width, num_bins, config))
        self.decoders = nn.ModuleList(
            DecoderLevel(width, num_bins, config) for width, num_bins in zip(widths, bins, strict=True)
        )
        self.ascents = nn.ModuleList(
            Ascent(below + config.num_decoders, width + config.num_encoders, width) for width, below in pairwise(widths)
        )
        self.output = nn.Linear(widths[0] + config.num_decoders, config.num_channels)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) in [0, 1] from magnitudes of the same shape in [0, 1]; InputError for others."""
        self.require_shape(magnitude)
        x = merged(frame_features(magnitude), self.config.fine_bins) ** self.config.compression
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
        # The blocks that turn the way up begin with what the deepest convolutions made; the encoder blocks' channels
        # they see as their skip.
        x = x[..., : level_widths(self.config)[-1]]
        for level in reversed(range(1, len(skips))):
            x = self.decoders[level](x, skips[level])
            x = frame_by_frame(self.ascents[level - 1], x, skips[level - 1])
        x = self.output(self.decoders[0](x, skips[0]))
        return frame_mask(spread(x, self.config.fine_bins))

    def recompute_activations(self) -> None:
        """Let training compute each block's activations again on its way back instead of keeping them.

        It takes up to a third more time; the gradients are the same.
        """
        for level in (*self.encoders, *self.decoders):
            level.call = recomputed


def _num_bins(config: ModelConfig) -> int:
    """Return how many bins the finest level works on; RecipeError if `fine_bins` does not fit."""
    return num_merged_bins(config.n_fft // 2, config.fine_bins)


def _first_level(width: int, config: ModelConfig) -> EncoderLevel:
    return EncoderLevel([FrameConvolution(config.num_channels, width)], _num_bins(config), config)


def _descent(in_channels: int, width: int, num_bins: int, config: ModelConfig) -> EncoderLevel:
    convolutions = [FrameConvolution(in_channels, width), FrameConvolution(width, width, stride=2)]
    return EncoderLevel(convolutions, num_bins, config)
