"""Causal parts of the autoregressive network: what they give for a frame depends on that frame and earlier ones.

Features are (B, n, F, C), what blocks see is (B, n, F): B batch, n frames at hand, F bin, C channel.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vrtool.model.config import ModelConfig
from vrtool.model.dropout import Dropout
from vrtool.model.gradients import depthwise_time_convolution
from vrtool.model.past import Memory, Past
from vrtool.model.transformer import FeedForward

# Variance of compressed magnitudes below which a frame counts as silence rather than being raised to full strength.
SILENT_VARIANCE = 1e-4

# Frames that a convolution over the mixture sees at once, as in the evolved encoder.
ENCODER_FRAMES = 9


class Reach(NamedTuple):
    """How far ahead the network hears the mixture, in frames.

    The encoders' two convolutions take `delays` of a look-ahead; attention then looks up to `ahead` frames after its
    own at what they made.
    """

    delays: tuple[int, int]
    ahead: int

    @property
    def delay(self) -> int:
        """How late the encoders are."""
        return sum(self.delays)

    @classmethod
    def within(cls, config: ModelConfig) -> Reach:
        """Return the reach that makes up the look-ahead in `config`.

        The encoders take as much as lets their convolutions see both sides alike.
        """
        most, look_ahead = ENCODER_FRAMES // 2, config.look_ahead_frames
        if look_ahead < 0:
            return cls((most, most), sys.maxsize)
        first = min(most, look_ahead // 2)
        delays = first, min(most, look_ahead - first)
        return cls(delays, look_ahead - sum(delays))


class FrameNorm(nn.Module):
    """Layer norm over all bins and channels of one frame, with a gain and an offset per channel.

    Batch norm in its place would let a frame know of later ones through the statistics.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n, F, C) from (B, n, F, C)."""
        shape = x.shape[2:]
        return functional.layer_norm(x, shape, self.weight.expand(shape), self.bias.expand(shape), SILENT_VARIANCE)


class CausalDepthwiseConvolution(nn.Module):
    """A convolution of every bin over its last `kernel_frames` frames.

    What it gives may stand for the frame `delay` frames ago, which then knows of as many frames ahead.
    """

    def __init__(self, num_bins: int, kernel_frames: int, *, bias: bool, delay: int = 0) -> None:
        super().__init__()
        # Begins as the identity with a little of the frames around: learning starts faster than from noise.
        weight = torch.randn(num_bins, 1, kernel_frames) * 0.1
        weight[..., -1 - delay] += 1.0
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(num_bins)) if bias else None
        self.num_past = kernel_frames - 1

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """Return (B, n, F) from (B, n, F)."""
        frames = past.precede(self, x, self.num_past)
        if x.shape[1] == 1:
            # Of a single frame a weighted sum is several times faster than the library's convolution.
            y = (frames * self.weight.squeeze(1).T).sum(dim=1, keepdim=True)
            return y if self.bias is None else y + self.bias
        return depthwise_time_convolution(frames, self.weight, self.bias, silence=0)


class CausalSeparableConvolution(nn.Module):
    """A causal depthwise convolution over time, then a linear map over bins (Chollet 2017, "Xception", section 2)."""

    def __init__(self, in_bins: int, out_bins: int, kernel_frames: int, *, bias: bool, delay: int = 0) -> None:
        super().__init__()
        self.depthwise = CausalDepthwiseConvolution(in_bins, kernel_frames, bias=bias, delay=delay)
        self.pointwise = nn.Linear(in_bins, out_bins, bias=bias)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """Return (B, n, out_bins) from (B, n, in_bins)."""
        y: Tensor = self.pointwise(self.depthwise(x, past))
        return y


class CausalProjection(nn.Module):
    """A linear map over bins, then a causal depthwise convolution over 3 frames.

    So et al. 2021, "Primer", section 3: "multi-DConv-head attention". `num_parts` of them, all of the same bins, are
    one larger one.
    """

    def __init__(self, num_bins: int, num_parts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_bins, num_parts * num_bins)
        self.depthwise = CausalDepthwiseConvolution(num_parts * num_bins, 3, bias=True)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """Return (B, n, num_parts F) from (B, n, F)."""
        y: Tensor = self.depthwise(self.linear(x), past)
        return y


class ParallelAttention(nn.Module):
    """Attention to the decoder's own past beside attention to the mixture, added (So et al. 2019, figure 3).

    Multiband frame attention: heads are frequency bands. Both look back `crop_frames` - 1 frames; the mixture is seen
    as far ahead as its memory may be looked at. Positions are numbers of frames within the song, by which queries and
    keys are turned (Su et al. 2021, "RoFormer", section 3.2.2).
    """

    def __init__(self, num_bins: int, config: ModelConfig, reach: Reach) -> None:
        super().__init__()
        self.head_shape = (config.num_bands, num_bins // config.num_bands)
        self.back, self.ahead = config.crop_frames - 1, reach.ahead
        # Queries of either attention, keys, values; for the mixture keys and values.
        self.projection = CausalProjection(num_bins, 4)
        self.mixture_projection = CausalProjection(num_bins, 2)
        self.output = nn.Linear(2 * num_bins, num_bins)

    def remember(self, mixture: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """Return keys and values for frames of the mixture, (B, n, F) all."""
        key, value = self.mixture_projection(mixture, past).chunk(2, dim=-1)
        return self._turned(key, past), value

    def forward(self, x: Tensor, mixture: Memory, past: Past) -> Tensor:
        """Return what the frames of `x` gathered from those before them and from the mixture: (B, n, F) both."""
        own_query, mixture_query, key, value = self.projection(x, past).chunk(4, dim=-1)
        own = past.remember(self, self._turned(key, past), value, self.back)
        gathered = (
            self._gather(own_query, own, past, ahead=0),
            self._gather(mixture_query, mixture, past, ahead=self.ahead),
        )
        y: Tensor = self.output(torch.cat(gathered, dim=-1))
        return y

    def _gather(self, query: Tensor, memory: Memory, past: Past, *, ahead: int) -> Tensor:
        """Return what queries (B, n, F) find in a memory from `back` frames before their own to `ahead` after it."""
        visible = reach_mask(past.first_frame, query.shape[1], memory, back=self.back, ahead=ahead)
        parts = (self._turned(query, past), memory.keys, memory.values)
        queries, keys, values = (torch.unflatten(part, -1, self.head_shape).transpose(1, 2) for part in parts)
        gathered = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
        return gathered.transpose(1, 2).flatten(-2)

    def _turned(self, x: Tensor, past: Past) -> Tensor:
        """Return (B, n, F) with the halves of every band turned against each other by their frames' angles."""
        num_bands, width = self.head_shape
        cosine, sine = past.rotation(x, width)
        halves = torch.unflatten(x, -1, (num_bands, 2, width // 2))
        return torch.addcmul(halves * cosine, halves.flip(-2), sine).flatten(-3)


def reach_mask(first_frame: int, num_frames: int, memory: Memory, *, back: int, ahead: int) -> Tensor | None:
    """Return which memory frames each of `num_frames` frames from `first_frame` on may look at: (n, m), True if it may.

    Those from `back` frames before it to `ahead` after it. None if all may look at all, for which kernels are faster.
    """
    first_key, last_key = memory.first_frame, memory.first_frame + memory.keys.shape[1] - 1
    last_frame = first_frame + num_frames - 1
    if last_key <= first_frame + ahead and first_key >= last_frame - back:
        return None
    device = memory.keys.device
    frames = torch.arange(first_frame, last_frame + 1, device=device).unsqueeze(1)
    distances = torch.arange(first_key, last_key + 1, device=device) - frames
    return (distances <= ahead) & (distances >= -back)


class CausalBranches(nn.Module):
    """The evolved decoder's branch layer, causal (So et al. 2019, figure 3): two separable convolutions over time.

    The wide one has a ReLU; their zero-padded sum is normed and brought back to the bins by a third.
    """

    def __init__(self, num_bins: int, feedforward_dim: int, *, bias: bool) -> None:
        super().__init__()
        self.wide = CausalSeparableConvolution(num_bins, feedforward_dim // 2, 11, bias=bias)
        self.narrow = CausalSeparableConvolution(num_bins, feedforward_dim // 4, 7, bias=bias)
        self.norm = nn.LayerNorm(feedforward_dim // 2)
        self.merge = CausalSeparableConvolution(feedforward_dim // 2, num_bins, 7, bias=bias)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """Return (B, n, F) from (B, n, F)."""
        wide, narrow = functional.relu(self.wide(x, past)), self.narrow(x, past)
        branches = wide + functional.pad(narrow, (0, wide.shape[-1] - narrow.shape[-1]))
        merged: Tensor = self.merge(self.norm(branches), past)
        return merged


class Delay(nn.Module):
    """Frames as they were some frames ago, silence at first."""

    def __init__(self, num_frames: int) -> None:
        super().__init__()
        self.num_frames = num_frames

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """Return (B, n, F) from (B, n, F)."""
        return past.precede(self, x, self.num_frames)[:, : x.shape[1]]


class MixtureEncoder(nn.Module):
    """What a level hears of the mixture: each frame with those around it, late by the reach's delay.

    The evolved encoder's branch layer (So et al. 2019, figure 3) of two separable convolutions over time, added to what
    it was given.
    """

    def __init__(self, in_channels: int, num_bins: int, config: ModelConfig, reach: Reach) -> None:
        super().__init__()
        width, bias = config.feedforward_dim // 2, config.bias
        self.bottleneck = nn.Linear(in_channels, 1, bias=False)
        self.norm = nn.LayerNorm(num_bins)
        self.inward = CausalSeparableConvolution(num_bins, width, ENCODER_FRAMES, bias=bias, delay=reach.delays[0])
        self.branches_norm = nn.LayerNorm(width)
        self.outward = CausalSeparableConvolution(width, num_bins, ENCODER_FRAMES, bias=bias, delay=reach.delays[1])
        self.delay = Delay(reach.delay)
        self.output_norm = nn.LayerNorm(num_bins)

    def forward(self, features: Tensor, past: Past) -> Tensor:
        """Return (B, n, F) from features (B, n, F, in_channels)."""
        x: Tensor = self.bottleneck(features).squeeze(-1)
        around = functional.relu(self.inward(self.norm(x), past))
        y = self.delay(x, past) + self.outward(self.branches_norm(around), past)
        heard: Tensor = self.output_norm(y)
        return heard


class CausalBlock(nn.Module):
    """The evolved transformer's decoder made causal, with one pair of attentions (So et al. 2019, figure 3).

    Parallel attention, branches, feed-forward, each added to what it was given and fed with its layer norm, and a norm
    at the end.
    """

    def __init__(self, in_channels: int, num_bins: int, config: ModelConfig, reach: Reach) -> None:
        super().__init__()
        width, bias = config.feedforward_dim, config.bias
        # The norms would take biases away again.
        self.bottleneck = nn.Linear(in_channels, 1, bias=False)
        self.attention_norm = nn.LayerNorm(num_bins)
        self.attention = ParallelAttention(num_bins, config, reach)
        self.branches_norm = nn.LayerNorm(num_bins)
        self.branches = CausalBranches(num_bins, width, bias=bias)
        self.feedforward_norm = nn.LayerNorm(num_bins)
        self.feedforward = FeedForward(num_bins, width, bias=bias)
        # The sum of all that was added grows without bound, and as one channel of a level would drown out all others.
        self.output_norm = nn.LayerNorm(num_bins)
        self.dropout = Dropout(config.dropout)

    def forward(self, features: Tensor, mixture: Memory, past: Past) -> Tensor:
        """Return (B, n, F, 1) from a level's features (B, n, F, in_channels) and the memory of the mixture."""
        x: Tensor = self.bottleneck(features).squeeze(-1)
        x = x + self.dropout(self.attention(self.attention_norm(x), mixture, past))
        x = x + self.dropout(self.branches(self.branches_norm(x), past))
        x = x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        y: Tensor = self.output_norm(x).unsqueeze(-1)
        return y
