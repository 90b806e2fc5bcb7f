"""From the network's mask to the stems, and how far they are from the truth: training and separation both call this."""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

FloatArray = npt.NDArray[np.float32]
ComplexArray = npt.NDArray[np.complex64]


@overload
def estimate_instrumental(mask: Tensor, mixture: Tensor) -> Tensor: ...
@overload
def estimate_instrumental(mask: FloatArray, mixture: ComplexArray) -> ComplexArray: ...
@overload
def estimate_instrumental(mask: FloatArray, mixture: FloatArray) -> FloatArray: ...
def estimate_instrumental(
    mask: Tensor | FloatArray, mixture: Tensor | FloatArray | ComplexArray
) -> Tensor | FloatArray | ComplexArray:
    """Return the instrumental's share of the mixture, bin by bin; the rest of the mixture is the vocals.

    The mask is the instrumental's share, in [0, 1]. The mixture has the mask's shape and holds magnitudes or complex
    values, whose phase the instrumental then has; torch tensors or numpy arrays, as given.
    """
    return mask * mixture


def masked_l1_loss(mask: Tensor, mixture_magnitude: Tensor, instrumental_magnitude: Tensor) -> Tensor:
    """Return the mean absolute error of the masked mixture against the instrumental: a scalar, >= 0.

    All three have the same shape; the magnitudes are those of one scale, in [0, 1].
    """
    return functional.l1_loss(estimate_instrumental(mask, mixture_magnitude), instrumental_magnitude)
