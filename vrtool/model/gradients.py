"""Operations that torch has, with gradients that take less time or memory than its own.

Each is a plain expression on the way forward; the backward passes hold the reason why it stands here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

# From so many channels out the library's gradient of a weight over bins takes more memory than our own, and from a few
# more on up to eight times as long; with fewer it is the faster one.
MANY_CHANNELS = 8


class _BinConvolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return functional.conv2d(x, weight, stride=(1, stride), padding=(0, 1))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = _saved(ctx, gradient)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = _input_gradient(gradient, x, weight, stride=(1, ctx.stride), padding=(0, 1))
        return of_x, _bin_tap_gradients(x, gradient, ctx.stride), None


def bin_convolution(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return the convolution of x (B, C, T, F) over bins with `weight` (out, C, 1, 3), silence beyond the ends."""
    if weight.shape[0] < MANY_CHANNELS:
        return functional.conv2d(x, weight, stride=(1, stride), padding=(0, 1))
    y: Tensor = _BinConvolution.apply(x, weight, stride)  # type: ignore[no-untyped-call]
    return y


def _bin_tap_gradients(x: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """Return the gradient of a weight (out, C, 1, 3): for each tap a product over bins, summed over frames."""
    rows = x.permute(0, 2, 3, 1).flatten(0, 1)  # (B T, F, C)
    gradients = gradient.permute(0, 2, 1, 3).flatten(0, 1)  # (B T, out, F / stride)
    # Tap k of bin f looks at bin stride f + k - 1, which for the first and the last tap may lie beyond the ends.
    num_after = (rows.shape[1] - 2) // stride + 1
    taps = (
        gradients[..., 1:] @ rows[:, stride - 1 : -1 : stride],
        gradients @ rows[:, ::stride],
        gradients[..., :num_after] @ rows[:, 1::stride],
    )
    return torch.stack([tap.sum(dim=0) for tap in taps], dim=-1).unsqueeze(2)


class _DepthwiseTimeConvolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, silence: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.silence = silence
        y = functional.conv2d(_image(x), weight.unsqueeze(2), bias, padding=(0, silence), groups=weight.shape[0])
        return _frames(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        x, weight = _saved(ctx, gradient)
        of_x = None
        if ctx.needs_input_grad[0]:
            padding, image = (0, ctx.silence), _image(gradient.contiguous())
            of_x = _frames(
                _input_gradient(image, _image(x), weight.unsqueeze(2), padding=padding, groups=weight.shape[0])
            )
        of_bias = gradient.sum(dim=(0, 1)) if ctx.needs_input_grad[2] else None
        return of_x, _frame_tap_gradients(x, gradient, weight.shape[2], ctx.silence), of_bias, None


def depthwise_time_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, silence: int) -> Tensor:
    """Return (B, T + 2 silence - K + 1, F): x (B, T, F) with every bin convolved over K frames, weight (F, 1, K).

    `silence` is the number of silent frames put before and after. Seen as an image of height one whose channels, the
    bins, lie last in memory, it takes a fifth of the time of torch's conv1d. The gradient of the weight is a sum per
    tap: a third of the library's time where there are many taps.
    """
    y: Tensor = _DepthwiseTimeConvolution.apply(x, weight, bias, silence)  # type: ignore[no-untyped-call]
    return y


def _frame_tap_gradients(x: Tensor, gradient: Tensor, kernel_frames: int, silence: int) -> Tensor:
    """Return the gradient of a weight (F, 1, K): for each tap a sum over the frames that it and its result share."""
    taps = []
    for shift in range(-silence, kernel_frames - silence):
        first, last = max(0, -shift), min(gradient.shape[1], x.shape[1] - shift)
        shared = gradient[:, first:last] * x[:, first + shift : last + shift] if first < last else gradient[:, :0]
        taps.append(shared.sum(dim=(0, 1)))
    return torch.stack(taps, dim=-1).unsqueeze(1)


class _SquaredRelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.relu().square_()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        # The slope is 2 relu(x), which is twice the root of the result.
        of_x: Tensor = y.sqrt().mul_(gradient).mul_(2.0)
        return of_x


def squared_relu(x: Tensor) -> Tensor:
    """Return relu(x)²; for its gradient it keeps only the result, which the next layer keeps anyhow."""
    y: Tensor = _SquaredRelu.apply(x)  # type: ignore[no-untyped-call]
    return y


class _ReluSum(Function):
    @staticmethod
    def forward(ctx: Any, wide: Tensor, narrow: Tensor) -> Tensor:
        y = wide.relu()
        ctx.save_for_backward(y > 0)
        ctx.num_narrow = narrow.shape[-1]
        y[..., : ctx.num_narrow] += narrow
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (passes,) = ctx.saved_tensors
        return gradient.where(passes, 0.0), gradient[..., : ctx.num_narrow]


def relu_sum(wide: Tensor, narrow: Tensor) -> Tensor:
    """Return relu(wide), (..., W), with `narrow` (..., N <= W) added to its first N values.

    For its gradient it keeps one byte per value instead of a float or two.
    """
    y: Tensor = _ReluSum.apply(wide, narrow)  # type: ignore[no-untyped-call]
    return y


def _saved(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two saved tensors in the precision of the gradient: autocast has converted them in between."""
    x, weight = ctx.saved_tensors
    return x.to(gradient.dtype), weight.to(gradient.dtype)


def _input_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    *,
    padding: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Return the gradient of a convolution's input x, in x's layout."""
    gradients = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), groups, (True, False, False)
    )
    of_x: Tensor = gradients[0]
    return of_x


def _image(x: Tensor) -> Tensor:
    """(B, T, F) as an image (B, F, 1, T)."""
    return x.unsqueeze(1).permute(0, 3, 1, 2)


def _frames(image: Tensor) -> Tensor:
    """An image (B, F, 1, T) as (B, T, F)."""
    return image.permute(0, 2, 3, 1).squeeze(1)
