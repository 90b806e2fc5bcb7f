"""Convolutions over bins, within a frame, and over time, within a bin.

Layouts, chosen because these are what the CPU's and the GPU's fast kernels take without a transpose: features are
(B, T, F, C), what blocks see is (B, T, F); B batch, T frame, F bin, C channel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        x = self.norm(self.convolution(x.permute(0, 3, 1, 2)))
        return functional.leaky_relu(x).permute(0, 2, 3, 1)


class Ascent(nn.Module):
    """The way one level up: bilinear over bins to the skip's size, joined with the skip, one frame convolution."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = FrameConvolution(in_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, T, F, out_channels) from (B, T, F / 2, in_channels) and the skip (B, T, F, skip_channels)."""
        # The number of frames stays, so that bilinear interpolation is linear in bins and leaves frames apart.
        size = skip.shape[1:3]
        raised = functional.interpolate(x.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=True)
        joined: Tensor = self.convolution(torch.cat((raised.permute(0, 2, 3, 1), skip), dim=-1))
        return joined


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
        # As an image of height one whose channels, the bins, lie last in memory: five times faster than conv1d.
        image = x.unsqueeze(1).permute(0, 3, 1, 2)
        weight = self.weight.unsqueeze(2)
        padding = (0, self.kernel_size[0] // 2)
        y = functional.conv2d(image, weight, self.bias, padding=padding, groups=self.groups)
        return y.permute(0, 2, 3, 1).squeeze(1)


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
