"""How far an estimate is from what it should be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

# Bounds the float64 copies to some megabytes.
BLOCK_VALUES = 1 << 19


def nsdr(reference: npt.NDArray[Any], estimate: npt.NDArray[Any]) -> float | None:
    """Return 10 log10(sum |ref|^2 / sum |ref - est|^2) in dB, over all channels and all time together.

    Both of one shape with time last: samples (channel, sample), or a spectrogram (channel, bin, frame), for
    which Parseval's theorem gives nearly the same number. None for a silent reference, of which nothing can
    be said; inf for a perfect estimate. The "new SDR" of Mitsufuji et al., "Music Demixing Challenge 2021"
    (equation 1), without the small constants that bound it there.
    """
    assert reference.shape == estimate.shape
    step = max(1, BLOCK_VALUES * reference.shape[-1] // max(1, reference.size))
    signal = error = 0.0
    for start in range(0, reference.shape[-1], step):
        truth = reference[..., start : start + step]
        signal += _energy(truth)
        error += _energy(truth - estimate[..., start : start + step])
    if signal == 0.0:
        return None
    return math.inf if error == 0.0 else 10.0 * math.log10(signal / error)


def _energy(values: npt.NDArray[Any]) -> float:
    # Millions of small squares: float32 sums would lose the last ones.
    return float(np.sum(np.square(np.abs(values), dtype=np.float64)))
