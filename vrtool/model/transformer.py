"""The transformer blocks of the frame transformer, after the evolved transformer (So et al. 2019, figure 3).

Inside a block x is (B, T, F): batch, frame, bin. A block looks at a level's features (B, T, F, C) through a bottleneck,
a linear map from all channels to one, and returns (B, T, F, 1), which becomes one more channel. The channels come as a
list of parts, first the level's own, then one of each block before: joining them for every block would copy them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from vrtool.model.attention import MultibandFrameAttention
from vrtool.model.config import ModelConfig
from vrtool.model.convolution import SeparableTimeConvolution, TimeConvolution
from vrtool.model.dropout import Dropout
from vrtool.model.gradients import relu_sum, squared_relu
from vrtool.model.recomputation import recomputed


class PreNorm(nn.Module):
    """x + layer(norm(x)): the sum itself is never normed, so that gradients pass unhindered."""

    def __init__(self, num_bins: int, layer: nn.Module, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(num_bins)
        self.layer = layer
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, *memory: Tensor) -> Tensor:
        """Return (B, T, F) from (B, T, F), and from `memory` of the same shape if the layer takes one."""
        update: Tensor = self.dropout(self.layer(self.norm(x), *memory))
        return update.add_(x)


class PostNorm(PreNorm):
    """norm(x + layer(x)), as the evolved transformer was published."""

    def forward(self, x: Tensor, *memory: Tensor) -> Tensor:
        """Return (B, T, F) from (B, T, F), and from `memory` of the same shape if the layer takes one."""
        normed: Tensor = self.norm(self.dropout(self.layer(x, *memory)).add_(x))
        return normed


# The residual connections by the name that ModelConfig.norm gives them.
RESIDUALS: dict[str, type[PreNorm]] = {"pre": PreNorm, "post": PostNorm}


class GatedLinearUnit(nn.Module):
    """One linear map gated by the sigmoid of another (Dauphin et al. 2017)."""

    def __init__(self, num_bins: int, *, bias: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(num_bins, 2 * num_bins, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, F) from (B, T, F)."""
        return functional.glu(self.linear(x))


class FeedForward(nn.Module):
    """Two linear maps with a squared ReLU between them (So et al. 2021, "Primer", section 3)."""

    def __init__(self, num_bins: int, feedforward_dim: int, *, bias: bool) -> None:
        super().__init__()
        self.inward = nn.Linear(num_bins, feedforward_dim, bias=bias)
        self.outward = nn.Linear(feedforward_dim, num_bins, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, F) from (B, T, F)."""
        y: Tensor = self.outward(squared_relu(self.inward(x)))
        return y


class EncoderBranches(nn.Module):
    """The evolved encoder's branch layer: a wide linear map beside a narrow convolution over time, both with ReLU.

    Their zero-padded sum is normed and brought back to the bins by a separable convolution.
    """

    def __init__(self, num_bins: int, feedforward_dim: int, *, bias: bool) -> None:
        super().__init__()
        self.wide = nn.Linear(num_bins, feedforward_dim, bias=bias)
        self.narrow = TimeConvolution(num_bins, feedforward_dim // 4, bias=bias)
        self.norm = nn.LayerNorm(feedforward_dim)
        self.merge = SeparableTimeConvolution(feedforward_dim, num_bins, 9, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, F) from (B, T, F)."""
        branches = relu_sum(self.wide(x), functional.relu(self.narrow(x), inplace=True))
        return recomputed(self._merged, branches)

    def _merged(self, branches: Tensor) -> Tensor:
        # The widest tensors of a block, which norm and depthwise convolution make quickly: training never keeps them.
        merged: Tensor = self.merge(self.norm(branches))
        return merged


class DecoderBranches(nn.Module):
    """The evolved decoder's branch layer: two separable convolutions over time, the wide one with ReLU.

    Their zero-padded sum is normed and brought back to the bins by a third.
    """

    def __init__(self, num_bins: int, feedforward_dim: int, *, bias: bool) -> None:
        super().__init__()
        self.wide = SeparableTimeConvolution(num_bins, feedforward_dim // 2, 11, bias=bias)
        self.narrow = SeparableTimeConvolution(num_bins, feedforward_dim // 4, 7, bias=bias)
        self.norm = nn.LayerNorm(feedforward_dim // 2)
        self.merge = SeparableTimeConvolution(feedforward_dim // 2, num_bins, 7, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, F) from (B, T, F)."""
        branches = relu_sum(self.wide(x), self.narrow(x))
        return recomputed(self._merged, branches)

    def _merged(self, branches: Tensor) -> Tensor:
        # The widest tensors of a block, which norm and depthwise convolution make quickly: training never keeps them.
        merged: Tensor = self.merge(self.norm(branches))
        return merged


class Bottleneck(nn.Linear):
    """A linear map from all channels of a level's features to one."""

    def __init__(self, in_channels: int, *, bias: bool) -> None:
        super().__init__(in_channels, 1, bias=bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:  # type: ignore[override]  # parts, not the whole
        """Return (B, T, F) from parts (B, T, F, ...) that have in_channels together."""
        weights = torch.split(self.weight, [part.shape[-1] for part in features], dim=1)
        x = functional.linear(features[0], weights[0], self.bias).squeeze(-1)
        for part, weight in zip(features[1:], weights[1:], strict=True):
            x = x + functional.linear(part, weight).squeeze(-1)
        return x


class ParallelAttention(nn.Module):
    """Self-attention and skip-attention side by side, added."""

    def __init__(self, num_bins: int, config: ModelConfig) -> None:
        super().__init__()
        self.self_attention = MultibandFrameAttention(num_bins, config)
        self.skip_attention = MultibandFrameAttention(num_bins, config)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Return (B, T, F) from `x` and the skip's `memory`, both (B, T, F)."""
        gathered: Tensor = self.self_attention(x)
        return gathered.add_(self.skip_attention(x, memory))


class EncoderBlock(nn.Module):
    """One evolved encoder: gated linear unit, branches, attention, feed-forward, a residual around each."""

    def __init__(self, in_channels: int, num_bins: int, config: ModelConfig) -> None:
        super().__init__()
        width, bias = config.feedforward_dim, config.bias
        residual = partial(RESIDUALS[config.norm], num_bins, dropout=config.dropout)
        self.bottleneck = Bottleneck(in_channels, bias=bias)
        self.gate = residual(layer=GatedLinearUnit(num_bins, bias=bias))
        self.branches = residual(layer=EncoderBranches(num_bins, width, bias=bias))
        self.self_attention = residual(layer=MultibandFrameAttention(num_bins, config))
        self.feedforward = residual(layer=FeedForward(num_bins, width, bias=bias))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return (B, T, F, 1) from parts (B, T, F, ...) of a level's features, in_channels together."""
        x: Tensor = self.bottleneck(features)
        x = self.gate(x)
        x = self.branches(x)
        x = self.self_attention(x)
        x = self.feedforward(x)
        return x.unsqueeze(-1)


class DecoderBlock(nn.Module):
    """One evolved decoder, which queries the skip connection of its level for global information.

    Self- and skip-attention in parallel, branches, self-attention, skip-attention, feed-forward, and a residual around
    each. Features and skip pass bottlenecks of their own.
    """

    def __init__(self, in_channels: int, skip_channels: int, num_bins: int, config: ModelConfig) -> None:
        super().__init__()
        width, bias = config.feedforward_dim, config.bias
        residual = partial(RESIDUALS[config.norm], num_bins, dropout=config.dropout)
        self.bottleneck = Bottleneck(in_channels, bias=bias)
        self.skip_bottleneck = Bottleneck(skip_channels, bias=bias)
        self.parallel_attention = residual(layer=ParallelAttention(num_bins, config))
        self.branches = residual(layer=DecoderBranches(num_bins, width, bias=bias))
        self.self_attention = residual(layer=MultibandFrameAttention(num_bins, config))
        self.skip_attention = residual(layer=MultibandFrameAttention(num_bins, config))
        self.feedforward = residual(layer=FeedForward(num_bins, width, bias=bias))

    def forward(self, features: Sequence[Tensor], skip: Tensor) -> Tensor:
        """Return (B, T, F, 1) from parts (B, T, F, ...) of the features and the skip (B, T, F, skip_channels)."""
        x: Tensor = self.bottleneck(features)
        memory = self.skip_bottleneck([skip])
        x = self.parallel_attention(x, memory)
        x = self.branches(x)
        x = self.self_attention(x)
        x = self.skip_attention(x, memory)
        x = self.feedforward(x)
        return x.unsqueeze(-1)
