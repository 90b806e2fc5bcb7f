"""Each convolution equals torch's plain one, and frames or bins that should stay apart do."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vrtool.model.convolution import (
    Ascent,
    DepthwiseTimeConvolution,
    FrameConvolution,
    SeparableTimeConvolution,
    TimeConvolution,
)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 17])
@pytest.mark.parametrize("bias", [True, False])
def test_time_convolution_equals_the_plain_one(num_frames: int, bias: bool) -> None:
    layer = TimeConvolution(6, 4, bias=bias)
    x = torch.randn(2, num_frames, 6)
    plain = functional.conv1d(x.transpose(1, 2), layer.weight, layer.bias, padding=1).transpose(1, 2)
    torch.testing.assert_close(layer(x), plain)


@pytest.mark.parametrize("kernel_frames", [3, 7, 9, 11])
@pytest.mark.parametrize("bias", [True, False])
def test_depthwise_time_convolution_equals_the_plain_one(kernel_frames: int, bias: bool) -> None:
    layer = DepthwiseTimeConvolution(6, kernel_frames, bias=bias)
    x = torch.randn(2, 5, 6)
    plain = functional.conv1d(
        x.transpose(1, 2), layer.weight, layer.bias, padding=kernel_frames // 2, groups=6
    ).transpose(1, 2)
    torch.testing.assert_close(layer(x), plain)


def test_convolutions_over_time_have_the_plain_ones_gradients() -> None:
    x = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    for layer in (
        TimeConvolution(3, 2, bias=True),
        DepthwiseTimeConvolution(3, 3, bias=True),
        SeparableTimeConvolution(3, 2, 7, bias=False),
    ):
        layer.double()
        assert torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize("stride", [1, 2])
def test_frame_convolution_exchanges_nothing_between_frames(stride: int) -> None:
    layer = FrameConvolution(3, 5, stride=stride).eval()
    x = torch.randn(2, 7, 16, 3)
    changed = x.clone()
    changed[:, 4] += 1.0
    differs = (layer(x) != layer(changed)).any(dim=3).any(dim=2).any(dim=0)
    assert differs.tolist() == [frame == 4 for frame in range(7)]


def test_frame_convolution_equals_the_plain_one() -> None:
    layer = FrameConvolution(3, 5, stride=2)
    x = torch.randn(2, 7, 16, 3)
    planes = functional.conv2d(
        x.permute(0, 3, 1, 2).contiguous(), layer.convolution.weight, stride=(1, 2), padding=(0, 1)
    )
    mean, variance = planes.mean((0, 2, 3), keepdim=True), planes.var((0, 2, 3), correction=0, keepdim=True)
    plain = functional.leaky_relu((planes - mean) / (variance + 1e-5).sqrt())
    torch.testing.assert_close(layer(x), plain.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_ascent_exchanges_nothing_between_frames() -> None:
    layer = Ascent(3, 2, 4).eval()
    x, skip = torch.randn(2, 7, 8, 3), torch.randn(2, 7, 16, 2)
    changed = x.clone()
    changed[:, 4] += 1.0
    differs = (layer(x, skip) != layer(changed, skip)).any(dim=3).any(dim=2).any(dim=0)
    assert differs.tolist() == [frame == 4 for frame in range(7)]
