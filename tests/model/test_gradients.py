"""The operations with gradients of their own give torch's results and the derivatives of what they compute."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vrtool.model.gradients import MANY_CHANNELS, bin_convolution, depthwise_time_convolution, relu_sum, squared_relu


@pytest.mark.parametrize(("stride", "num_bins"), [(1, 4), (1, 5), (2, 4), (2, 6)])
@pytest.mark.parametrize("out_channels", [4, MANY_CHANNELS])
def test_bin_convolution_has_the_plain_ones_results_and_gradients(
    stride: int, num_bins: int, out_channels: int
) -> None:
    x = torch.randn(2, 3, 2, num_bins, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(out_channels, 3, 1, 3, dtype=torch.float64, requires_grad=True)
    y = bin_convolution(x, weight, stride)
    torch.testing.assert_close(y, functional.conv2d(x, weight, stride=(1, stride), padding=(0, 1)))
    assert torch.autograd.gradcheck(lambda x, weight: bin_convolution(x, weight, stride), (x, weight))


@pytest.mark.parametrize(
    ("num_frames", "kernel_frames", "silence"),
    [(1, 3, 1), (3, 7, 3), (6, 3, 1), (12, 11, 5), (3, 3, 0), (12, 11, 0), (6, 4, 1)],
)
def test_depthwise_time_convolution_has_the_plain_ones_results_and_gradients(
    num_frames: int, kernel_frames: int, silence: int
) -> None:
    x = torch.randn(2, num_frames, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, kernel_frames, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    y = depthwise_time_convolution(x, weight, bias, silence)
    torch.testing.assert_close(y.mT, functional.conv1d(x.mT, weight, bias, padding=silence, groups=3))
    assert torch.autograd.gradcheck(lambda x, w, b: depthwise_time_convolution(x, w, b, silence), (x, weight, bias))


def test_squared_relu_is_the_square_of_relu_with_its_gradient() -> None:
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(squared_relu(x), functional.relu(x).square())
    assert torch.autograd.gradcheck(squared_relu, (x,))


def test_relu_sum_is_the_zero_padded_sum_with_its_gradients() -> None:
    wide = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    narrow = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(relu_sum(wide, narrow), functional.relu(wide) + functional.pad(narrow, (0, 3)))
    assert torch.autograd.gradcheck(relu_sum, (wide, narrow))
