"""What a mixture falls into, and which mixtures can be separated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.errors import AudioError

MAX_CHANNELS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Stems:
    """The two halves of a mixture, at its sample rate, channel count and length; they sum to it sample by sample."""

    instrumental: Waveform
    vocals: Waveform


def check_mixture(mixture: Waveform) -> None:
    """Raise AudioError unless the waveform has one or two channels, a sample or more, and only finite samples."""
    check_channels(mixture.num_channels)
    if mixture.num_samples == 0:
        raise AudioError("expected at least one sample, found none")
    num_broken = mixture.samples.size - int(np.isfinite(mixture.samples).sum())
    if num_broken:
        raise AudioError(f"expected finite samples, found {num_broken} that are NaN or infinite; export the file again")


def check_channels(num_channels: int) -> None:
    """Raise AudioError unless a song has one or two channels."""
    if not 1 <= num_channels <= MAX_CHANNELS:
        raise AudioError(f"expected one or two channels, found {num_channels}; mix it down to stereo first")


def fit_length(samples: FloatArray, num_samples: int) -> FloatArray:
    """Return `samples` (channel, sample) cut, or continued with silence, to `num_samples` samples."""
    missing = num_samples - samples.shape[1]
    return np.pad(samples, ((0, 0), (0, missing))) if missing > 0 else samples[:, :num_samples]
