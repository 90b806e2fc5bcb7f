"""Multiband frame attention: heads are frequency bands, and frames attend to frames."""

from __future__ import annotations

from torch import Tensor, nn

from vrtool.model.config import ModelConfig
from vrtool.model.convolution import DepthwiseTimeConvolution
from vrtool.model.position import POSITIONS


class FrameProjection(nn.Module):
    """A linear map over bins, then a depthwise convolution over 3 frames.

    So et al. 2021, "Primer", section 3: "multi-DConv-head attention". Both always have biases.
    """

    def __init__(self, num_bins: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_bins, num_bins)
        self.depthwise = DepthwiseTimeConvolution(num_bins, 3, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, F) from (B, T, F)."""
        y: Tensor = self.depthwise(self.linear(x))
        return y


class MultibandFrameAttention(nn.Module):
    """Multi-head attention over frames whose heads are frequency bands (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, num_bins: int, config: ModelConfig) -> None:
        super().__init__()
        self.head_shape = (config.num_bands, num_bins // config.num_bands)
        self.query = FrameProjection(num_bins)
        self.key = FrameProjection(num_bins)
        self.value = FrameProjection(num_bins)
        self.position = POSITIONS[config.position](num_bins, config.num_bands, config.crop_frames)
        self.output = nn.Linear(num_bins, num_bins)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """Return what the frames of `x` gathered: (B, T, F) from (B, T, F).

        Keys and values come from `memory` (B, T, F), whose frames are aligned with those of `x`; without a memory x
        attends to itself.
        """
        memory = x if memory is None else memory
        projected = (self.query(x), self.key(memory), self.value(memory))
        # (B, T, F) as (B, T, H, D), then heads first, as a view.
        query, key, value = (part.unflatten(-1, self.head_shape).transpose(1, 2) for part in projected)
        gathered = self.position(query, key, value)
        y: Tensor = self.output(gathered.transpose(1, 2).flatten(-2))
        return y
