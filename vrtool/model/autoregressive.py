"""The autoregressive frame transformer: masks from its own output so far and a mixture heard a little ahead.

A causal decoder in the shape of the frame transformer, after the idea (not the code, which its author called broken) of
the autoregressive variant of carperbr's vocal-remover-frame-transformer. Training shows it the past of the true
instrumental, all frames at once; separation lets it go frame by frame on its own output, at a constant cost per frame,
so that a song of any length is one pass. Features are (B, T, F, C): batch, frame, bin, channel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vrtool.errors import RecipeError
from vrtool.model.autoregressive_stream import Stream, stems
from vrtool.model.causal import CausalBlock, FrameNorm
from vrtool.model.config import ModelConfig
from vrtool.model.convolution import doubled
from vrtool.model.gradients import bin_convolution
from vrtool.model.layout import frame_features, frame_mask
from vrtool.model.levels import level_bins, level_widths, require_bands_that_fit
from vrtool.model.masking import estimate_instrumental
from vrtool.model.network import MaskStream, Network
from vrtool.model.past import Memory, Past, SongStart

# Frames of a mixture that are embedded at once when all of it is there: enough for the products to be efficient.
EMBEDDED_FRAMES = 128


class FrameEmbedding(nn.Module):
    """A convolution over 3 bins of one frame, frame norm, leaky ReLU: as in the frame transformer but for the norm."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, (1, 3), stride=(1, stride), padding=(0, 1), bias=False)
        self.norm = FrameNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n, F / stride, out_channels) from (B, n, F, in_channels)."""
        y = bin_convolution(x.permute(0, 3, 1, 2), self.convolution.weight, self.convolution.stride[1])
        return functional.leaky_relu(self.norm(y.permute(0, 2, 3, 1)), inplace=True)


class Descent(nn.Module):
    """The way down: magnitudes to the features of every level, finest first; frames stay apart."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList([FrameEmbedding(in_channels, widths[0])])
        for above, width in pairwise(widths):
            self.levels.append(nn.Sequential(FrameEmbedding(above, width), FrameEmbedding(width, width, stride=2)))

    def forward(self, magnitude: Tensor) -> list[Tensor]:
        """Return the features (B, n, F / 2^level, width) of every level from (B, in_channels, F + 1, n)."""
        x = frame_features(magnitude)
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class Ascent(nn.Module):
    """The way one level up: linear between bins to the skip's size, joined with the skip, embedded together."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.embedding = FrameEmbedding(in_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, n, F, out_channels) from (B, n, F / 2, below) and the skip (B, n, F, channels)."""
        joined: Tensor = self.embedding(torch.cat((doubled(x), skip), dim=-1))
        return joined


class DecoderLevel(nn.Module):
    """The blocks of one level, each of which adds a channel."""

    def __init__(self, width: int, num_bins: int, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            CausalBlock(width + index, width, num_bins, config) for index in range(config.num_decoders)
        )

    def remember(self, mixture: Tensor, past: Past) -> list[tuple[Tensor, Tensor]]:
        """Return each block's keys and values (B, n, F) for the mixture's features (B, n, F, width)."""
        return [cast(CausalBlock, block).remember(mixture, past) for block in self.blocks]

    def forward(self, x: Tensor, mixture: Sequence[Memory], past: Past, *, ahead: int) -> Tensor:
        """Return (B, n, F, width + num_decoders) from (B, n, F, width) and each block's memory of the mixture."""
        for block, memory in zip(self.blocks, mixture, strict=True):
            x = torch.cat((x, block(x, memory, past, ahead=ahead)), dim=-1)
        return x


class _Heard(NamedTuple):
    """A mixture (B, C, F, T), its features of every level and each block's memory of them."""

    mixture: Tensor
    skips: list[Tensor]
    memories: list[list[Memory]]


class AutoregressiveFrameTransformer(Network):
    """Magnitudes to the instrumental's mask, a frame after the other.

    The mixture's frames are embedded on their own; decoder blocks on the way up look back at what the decoder made and
    at the mixture from as far back to `look_ahead_frames` ahead. Lists of parts are in the order of levels, finest
    first. Norms see one frame at a time.
    """

    settings = frozenset(
        {
            "num_channels", "n_fft", "channels", "num_bands", "feedforward_dim", "num_decoders", "crop_frames",
            "dropout", "bias", "compression", "look_ahead_frames", "own_past_share", "true_past_share",
        }
    )  # fmt: skip

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.look_ahead_frames = config.look_ahead_frames if config.look_ahead_frames >= 0 else None
        widths = level_widths(config)
        self.mixture_descent = Descent(config.num_channels, widths)
        self.past_descent = Descent(2 * config.num_channels, widths)
        self.ascents = nn.ModuleList(
            Ascent(below + config.num_decoders + width, width) for width, below in pairwise(widths)
        )
        self.decoders = nn.ModuleList(
            DecoderLevel(width, bins, config) for width, bins in zip(widths, level_bins(config), strict=True)
        )
        # Without the norm of a last embedding, logits grow with the blocks' sums until the sigmoid has no slope left.
        self.output = nn.Sequential(
            FrameEmbedding(widths[0] + config.num_decoders, widths[0]), nn.Linear(widths[0], config.num_channels)
        )

    @classmethod
    def require_buildable(cls, config: ModelConfig) -> None:
        """Raise RecipeError unless every level's bins can be shared out evenly among bands, an even number to each."""
        require_bands_that_fit(config)
        if (width := level_bins(config)[-1] // config.num_bands) % 2:
            raise RecipeError(
                f"bands of the deepest level must have an even number of bins, found {width}; halve num_bands = "
                f"{config.num_bands} or double n_fft = {config.n_fft}"
            )

    @torch.no_grad()
    def forward(self, magnitude: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) in [0, 1] that the network makes on its own, frame by frame, without gradients.

        From magnitudes of the same shape in [0, 1]; InputError for others.
        """
        self.require_shape(magnitude)
        stream = Stream(self, magnitude.shape[3] if self.look_ahead_frames is None else self.look_ahead_frames)
        masks = [stream.push(frames) for frames in torch.split(magnitude, EMBEDDED_FRAMES, dim=3)]
        return torch.cat([*masks, stream.finish()], dim=3)

    def open_stream(self) -> MaskStream:
        """Return the start of a song in one pass; InputError if the look-ahead is unlimited."""
        return super().open_stream() if self.look_ahead_frames is None else Stream(self, self.look_ahead_frames)

    def training_mask(self, mixture: Tensor, instrumental: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) from the mixture and a past as training varies it, all frames at once.

        At separation the past is the network's own output, made of nothing but the mixture. A batch is shown, in shares
        that the settings give, the truth (B, C, F, T) more or less spoiled, which is teacher forcing; the network's own
        output from a first pass, which is scheduled sampling in two passes (after Mihaylova and Martins 2019,
        "Scheduled Sampling for Transformers", section 3, whose first pass sees the truth); or a share of the mixture,
        which is all that a first pass is given.
        """
        heard = self._hear(mixture)
        return self._parallel_mask(heard, self._training_past(heard, instrumental))

    def _training_past(self, heard: _Heard, instrumental: Tensor) -> Tensor:
        draw, mixture, config = float(torch.rand(())), heard.mixture, self.config
        if draw < config.true_past_share:
            return _spoiled(mixture, instrumental)
        unknowing = _random_shares(mixture) * mixture
        if draw >= config.true_past_share + config.own_past_share:
            return unknowing
        with torch.no_grad():
            first = self._parallel_mask(heard, unknowing)
        # Under autocast older versions of torch would go on with weights converted here, which know of no gradients.
        torch.clear_autocast_cache()
        return estimate_instrumental(first, mixture)

    def parallel_mask(self, mixture: Tensor, instrumental: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) that each frame has after the frames of `instrumental` before it.

        Given what the mask makes of the mixture, frame by frame, it is what `forward` returns.
        """
        return self._parallel_mask(self._hear(mixture), instrumental)

    def _hear(self, mixture: Tensor) -> _Heard:
        skips = self.embed(mixture)
        memories = [[Memory(*kept, 0) for kept in level] for level in self.remember(skips, SongStart())]
        return _Heard(mixture, skips, memories)

    def _parallel_mask(self, heard: _Heard, instrumental: Tensor) -> Tensor:
        before = functional.pad(stems(heard.mixture, instrumental)[..., :-1], (1, 0))
        return self.decode(heard.skips, before, heard.memories, SongStart(), ahead=_reach(self.look_ahead_frames))

    def compile(self, *_: object, **__: object) -> None:
        """Raise RecipeError: what goes frame by frame and keeps states is nothing for a compiler."""
        raise RecipeError("autoregressive networks are not compiled; leave training.compile out")

    def embed(self, mixture: Tensor) -> list[Tensor]:
        """Return the features (B, n, F, width) of every level, finest first, for magnitudes (B, C, F + 1, n)."""
        features: list[Tensor] = self.mixture_descent(mixture**self.config.compression)
        return features

    def remember(self, features: list[Tensor], past: Past) -> list[list[tuple[Tensor, Tensor]]]:
        """Return keys and values (B, n, F) for the mixture's features, of every block of every level."""
        levels = cast(Iterable[DecoderLevel], self.decoders)
        return [level.remember(x, past) for level, x in zip(levels, features, strict=True)]

    def decode(
        self, mixture: list[Tensor], before: Tensor, memories: list[list[Memory]], past: Past, *, ahead: int
    ) -> Tensor:
        """Return the mask (B, C, F, n) of n frames.

        `mixture` has the features of these frames, `before` the stems (B, 2 C, F, n) of the frame before each of them.
        """
        own = self.past_descent(before**self.config.compression)
        skips = [heard + made for heard, made in zip(mixture, own, strict=True)]
        x = skips[-1]
        for level in reversed(range(len(skips))):
            if level < len(skips) - 1:
                x = self.ascents[level](x, skips[level])
            x = self.decoders[level](x, memories[level], past, ahead=ahead)
        return frame_mask(self.output(x))


def _reach(look_ahead_frames: int | None) -> int:
    return sys.maxsize if look_ahead_frames is None else look_ahead_frames


def _spoiled(mixture: Tensor, instrumental: Tensor) -> Tensor:
    """Return the instrumental (B, C, F, T) as a separation gone more or less wrong would have left it.

    Each example's true mask is drawn more or less far towards one share for all bins: towards 1, vocals leak in;
    towards 0, music is lost.
    """
    truth = torch.minimum(instrumental, mixture)
    return truth + _random_shares(mixture) * (_random_shares(mixture) * mixture - truth)


def _random_shares(mixture: Tensor) -> Tensor:
    """Return a share in [0, 1) for each example: (B, 1, 1, 1)."""
    return torch.rand(mixture.shape[0], 1, 1, 1).to(mixture.device)
