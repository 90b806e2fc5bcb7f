"""Convolutions over bins, within a frame, and over time, within a bin.

Layouts, chosen because these are what the CPU's and the GPU's fast kernels take without a transpose: features are
(B, T, F, C), what blocks see is (B, T, F); B batch, T frame, F bin, C channel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vrtool.model.gradients import bin_convolution, depthwise_time_convolution

# How fast batch norm's running statistics follow: over some 50 batches rather than torch's 10, because a batch on a
# small machine holds two songs, and what separation normalises with should not depend on which songs came last.
NORM_MOMENTUM = 0.02


class FrameConvolution(nn.Module):
    """A convolution over 3 bins of one frame, without bias, then batch norm and leaky ReLU; frames stay apart."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, (1, 3), stride=(1, stride), padding=(0, 1), bias=False)
        self.norm = nn.BatchNorm2d(out_channels, momentum=NORM_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, F / stride, out_channels) from (B, T, F, in_channels)."""
        # Seen as (B, C, T, F) this memory is what torch calls channels last; oneDNN convolves it several times faster,
        # forward and backward, than planes of (T, F), where so few channels leave its kernels nothing to do.
        planes = x.permute(0, 3, 1, 2)
        y = self._normed(planes) if self.training else self._folded(planes)
        return functional.leaky_relu(y, inplace=True).permute(0, 2, 3, 1)

    def _normed(self, planes: Tensor) -> Tensor:
        y: Tensor = self.norm(bin_convolution(planes, self.convolution.weight, self.convolution.stride[1]))
        return y

    def _folded(self, planes: Tensor) -> Tensor:
        """Convolve with weights that do what batch norm's fixed statistics and the convolution do one after another."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = self.convolution.weight * scale[:, None, None, None]
        bias = norm.bias - norm.running_mean * scale
        return functional.conv2d(planes, weight, bias, self.convolution.stride, self.convolution.padding)


class Ascent(nn.Module):
    """The way one level up: bilinear over bins to the skip's size, joined with the skip, one frame convolution."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = FrameConvolution(in_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, T, F, out_channels) from (B, T, F / 2, in_channels) and the skip (B, T, F, skip_channels)."""
        joined: Tensor = self.convolution(torch.cat((doubled(x), skip), dim=-1))
        return joined


def doubled(x: Tensor) -> Tensor:
    """Return (B, T, 2 F, C) from (B, T, F, C), linear between bins, the outermost ones in place.

    The new bin i looks at i (F - 1) / (2 F - 1): for i = 2 m that is m / (2 F - 1) below bin m, for i = 2 m + 1 it is
    (F - 1 - m) / (2 F - 1) above it. The same as torch's bilinear interpolation, in half its time.
    """
    num_bins = x.shape[2]
    share = torch.arange(num_bins, dtype=x.dtype, device=x.device)[:, None] / (2 * num_bins - 1)
    steps = x.diff(dim=2)
    below = x - functional.pad(steps, (0, 0, 1, 0)) * share
    above = x + functional.pad(steps, (0, 0, 0, 1)) * share.flip(0)
    return torch.stack((below, above), dim=3).flatten(2, 3)


class TimeConvolution(nn.Conv1d):
    """A convolution over 3 frames, with silence beyond the ends."""

    def __init__(self, in_bins: int, out_bins: int, *, bias: bool) -> None:
        super().__init__(in_bins, out_bins, 3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, out_bins) from (B, T, in_bins)."""
        # One product with all three taps, whose results are then shifted by a frame and added: half the time of the
        # library's convolution forward and backward, and nothing but x is kept for the backward pass.
        taps = functional.linear(x, self.weight.permute(2, 0, 1).flatten(0, 1))
        before, centre, after = taps.chunk(3, dim=-1)
        y = centre + functional.pad(before[:, :-1], (0, 0, 1, 0)) + functional.pad(after[:, 1:], (0, 0, 0, 1))
        return y if self.bias is None else y + self.bias


class DepthwiseTimeConvolution(nn.Conv1d):
    """A convolution over `kernel_frames` frames (odd), every bin on its own, with silence beyond the ends."""

    def __init__(self, num_bins: int, kernel_frames: int, *, bias: bool) -> None:
        super().__init__(num_bins, num_bins, kernel_frames, groups=num_bins, bias=bias)

    def reset_parameters(self) -> None:
        """Begin as the identity with a little of every frame's neighbours: learning starts faster than from noise."""
        nn.init.normal_(self.weight, std=0.1)
        with torch.no_grad():
            self.weight[:, :, self.kernel_size[0] // 2] += 1.0
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, F) from (B, T, F)."""
        return depthwise_time_convolution(x, self.weight, self.bias, silence=self.kernel_size[0] // 2)


class SeparableTimeConvolution(nn.Module):
    """A depthwise convolution over time, then a linear map over bins (Chollet 2017, "Xception", section 2)."""

    def __init__(self, in_bins: int, out_bins: int, kernel_frames: int, *, bias: bool) -> None:
        super().__init__()
        self.depthwise = DepthwiseTimeConvolution(in_bins, kernel_frames, bias=bias)
        self.pointwise = nn.Linear(in_bins, out_bins, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, out_bins) from (B, T, in_bins)."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y
