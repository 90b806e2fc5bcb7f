"""How far an estimate is from what it should be."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
    signal = error = 0.0
    for truth, guess in _blocks(reference, estimate):
        signal += _energy(truth)
        error += _energy(truth - guess)
    return _decibels(signal, error)


def si_sdr(reference: npt.NDArray[Any], estimate: npt.NDArray[Any]) -> float | None:
    """Return the scale-invariant SDR in dB: 10 log10(sum |a ref|^2 / sum |a ref - est|^2).

    The gain a = <est, ref> / sum |ref|^2 is where the reference fits best, so that an estimate's own gain does not
    count. Samples (channel, sample), both of one shape; all channels and all time are one signal with one gain. None
    for a silent reference, inf for the reference at any gain, -inf for what has no trace of it, such as silence.
    Le Roux et al., "SDR - half-baked or well done?" (2019), equation 3; as there, no mean is subtracted.
    """
    energy = product = 0.0
    for truth, guess in _blocks(reference, estimate):
        energy += _energy(truth)
        product += float(np.sum(np.multiply(truth, guess, dtype=np.float64)))
    if energy == 0.0:
        return None
    gain = product / energy
    if gain == 0.0:
        return -math.inf
    # A pass of its own: as est^2 - (a ref)^2 the error of a good estimate would be lost in rounding.
    error = sum(_energy(gain * truth.astype(np.float64) - guess) for truth, guess in _blocks(reference, estimate))
    return _decibels(gain * gain * energy, error)


def _blocks(
    reference: npt.NDArray[Any], estimate: npt.NDArray[Any]
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Yield the same stretches of time of both."""
    assert reference.shape == estimate.shape
    step = max(1, BLOCK_VALUES * reference.shape[-1] // max(1, reference.size))
    for start in range(0, reference.shape[-1], step):
        yield reference[..., start : start + step], estimate[..., start : start + step]


def _decibels(signal: float, error: float) -> float | None:
    if signal == 0.0:
        return None
    return math.inf if error == 0.0 else 10.0 * math.log10(signal / error)


def _energy(values: npt.NDArray[Any]) -> float:
    # Millions of small squares: float32 sums would lose the last ones.
    return float(np.sum(np.square(np.abs(values), dtype=np.float64)))
