"""The parts of one level of the autoregressive network: the ways down and up, and what stands on the level itself.

Features are (B, n, F, C), what blocks see is (B, n, F): B batch, n frames at hand, F bin, C channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vrtool.model.causal import CausalBlock, FrameNorm, MixtureEncoder, Reach
from vrtool.model.config import ModelConfig
from vrtool.model.convolution import doubled
from vrtool.model.gradients import bin_convolution
from vrtool.model.layout import frame_features
from vrtool.model.past import Memory, Past


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


class Heard(NamedTuple):
    """What a level is given of the mixture.

    Its features (B, n, F, width) and the encoder's output (B, n, F) of the frames at hand, and each block's memory of
    those around them.
    """

    features: Tensor
    encoded: Tensor
    memories: list[Memory]


class Level(nn.Module):
    """An encoder of the mixture, then decoder blocks; each adds a channel."""

    def __init__(self, width: int, num_bins: int, config: ModelConfig, reach: Reach) -> None:
        super().__init__()
        self.encoder = MixtureEncoder(width, num_bins, config, reach)
        self.blocks = nn.ModuleList(
            CausalBlock(width + 1 + index, num_bins, config, reach) for index in range(config.num_decoders)
        )

    def hear(self, features: Tensor, past: Past) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return the encoder's output, and each block's keys and values for it, from the mixture's features.

        (B, n, F) all, from (B, n, F, width), and late by the reach's delay.
        """
        encoded = self.encoder(features, past)
        return encoded, [cast(CausalBlock, block).attention.remember(encoded, past) for block in self.blocks]

    def forward(self, x: Tensor, mixture: Heard, past: Past) -> Tensor:
        """Return (B, n, F, width + 1 + num_decoders) from (B, n, F, width)."""
        x = torch.cat((x, mixture.encoded.unsqueeze(-1)), dim=-1)
        for block, memory in zip(self.blocks, mixture.memories, strict=True):
            x = torch.cat((x, block(x, memory, past)), dim=-1)
        return x
