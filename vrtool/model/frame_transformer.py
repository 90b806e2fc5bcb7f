"""The frame transformer: a U-Net over bins that embeds each frame on its own, with transformers between the frames.

After carperbr's vocal-remover-frame-transformer (May 2022). Features are (B, T, F, C): batch, frame, bin, channel.
Level 0 works on all bins but the topmost, each deeper level on half the bins of the one above it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from vrtool.errors import InputError
from vrtool.model.config import ModelConfig
from vrtool.model.convolution import Ascent, FrameConvolution
from vrtool.model.network import Network
from vrtool.model.transformer import DecoderBlock, EncoderBlock

# Features of each level, in multiples of ModelConfig.channels.
WIDTHS = (1, 2, 4, 6, 8)


class EncoderLevel(nn.Module):
    """A level on the way down: frame convolutions, then encoder blocks, each of which adds a channel."""

    def __init__(self, convolutions: list[FrameConvolution], num_bins: int, config: ModelConfig) -> None:
        super().__init__()
        width = convolutions[-1].convolution.out_channels
        self.convolutions = nn.Sequential(*convolutions)
        self.blocks = nn.ModuleList(
            EncoderBlock(width + index, num_bins, config) for index in range(config.num_encoders)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, F / stride, out_channels + num_encoders) from (B, T, F, in_channels)."""
        x = self.convolutions(x)
        for block in self.blocks:
            x = torch.cat((x, block(x)), dim=-1)
        return x


class DecoderLevel(nn.Module):
    """A level on the way up: decoder blocks, each of which looks at the skip and adds a channel."""

    def __init__(self, width: int, num_bins: int, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            DecoderBlock(width + index, width + config.num_encoders, num_bins, config)
            for index in range(config.num_decoders)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, T, F, width + num_decoders) from (B, T, F, width) and the skip (B, T, F, width + num_encoders)."""
        for block in self.blocks:
            x = torch.cat((x, block(x, skip)), dim=-1)
        return x


class FrameTransformer(Network):
    """Magnitudes to the instrumental's mask.

    Lists of parts are in the order of levels, finest first.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.requires_frames = config.crop_frames if config.position == "ancestor" else None
        widths = [factor * config.channels for factor in WIDTHS]
        bins = config.level_bins
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
        self._require_shape(magnitude)
        x = _channels_last(magnitude[:, :, :-1]) ** self.config.compression
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
        # The blocks that turn the way up begin with what the deepest convolutions made; the encoder blocks' channels
        # they see as their skip.
        x = x[..., : self.config.channels * WIDTHS[-1]]
        for level in reversed(range(1, len(skips))):
            x = self.decoders[level](x, skips[level])
            x = self.ascents[level - 1](x, skips[level - 1])
        x = self.output(self.decoders[0](x, skips[0]))
        return _mask(x)

    def _require_shape(self, magnitude: Tensor) -> None:
        channels, bins, frames = self.config.num_channels, self.config.num_bins, self.requires_frames
        found = tuple(magnitude.shape)
        if magnitude.ndim != 4 or found[1:3] != (channels, bins) or frames not in (None, found[3]):
            raise InputError(
                f"the network takes magnitudes (batch, {channels}, {bins}, {frames or 'frames'}), found {found}"
            )


def _first_level(width: int, config: ModelConfig) -> EncoderLevel:
    return EncoderLevel([FrameConvolution(config.num_channels, width)], config.level_bins[0], config)


def _descent(in_channels: int, width: int, num_bins: int, config: ModelConfig) -> EncoderLevel:
    convolutions = [FrameConvolution(in_channels, width), FrameConvolution(width, width, stride=2)]
    return EncoderLevel(convolutions, num_bins, config)


def _channels_last(magnitude: Tensor) -> Tensor:
    """(B, C, F, T) to (B, T, F, C), laid out in memory as its shape says."""
    return magnitude.permute(0, 3, 2, 1).contiguous()


def _mask(logits: Tensor) -> Tensor:
    """Return the mask (B, C, F + 1, T) in [0, 1] from logits (B, T, F, C); the top bin repeats the one below it.

    Frames lie before bins in its memory, as they do in a cache's spectrograms.
    """
    planes = logits.permute(0, 3, 1, 2)
    return torch.cat((planes, planes[..., -1:]), dim=-1).contiguous().sigmoid().transpose(2, 3)
