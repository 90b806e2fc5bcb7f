"""Statistics of signals that pass by block by block."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vrtool.audio.formats import FloatArray
from vrtool.dataset.header import SignalStatistics
from vrtool.errors import AudioError

SILENCE_DB = -60.0
"""RMS in dB of full scale below which a hop counts as silent."""
SILENT_POWER = 10.0 ** (SILENCE_DB / 10.0)
CLIPPING_LEVEL = 0.9999
"""A sample this near full scale was probably cut off there: 16-bit full scale is 0.99997."""
LARGEST_SAMPLE = 2.0**31
"""The loudest that may be meant as audio (32-bit integers taken for floats); far above it, spectra overflow."""


class SampleMeter:
    """Looks at samples, as they were decoded if possible: for what cannot be used, and for clipping."""

    def __init__(self, which: str = "") -> None:
        """Begin; `which` stands before "has ..." in errors."""
        self._which = which
        self._num_samples = self._num_clipped = 0
        self.sample_peak = 0.0

    def add(self, block: FloatArray) -> None:
        """Take in a block (channel, sample); raises AudioError if there is no audio in it."""
        magnitude = np.abs(block)
        largest = float(magnitude.max(initial=0.0))
        if not np.isfinite(largest):
            raise AudioError(f"{self._which}has samples that are NaN or infinite; export it again")
        if largest > LARGEST_SAMPLE:
            raise AudioError(
                f"{self._which}has samples of up to {largest:.3g}, expected full scale to be 1; export it again"
            )
        self.sample_peak = max(self.sample_peak, largest)
        self._num_samples += block.size
        if largest >= CLIPPING_LEVEL:
            self._num_clipped += int(np.count_nonzero(magnitude >= CLIPPING_LEVEL))

    @property
    def clipping_share(self) -> float:
        """The share of samples at full scale or above."""
        return self._num_clipped / max(1, self._num_samples)


class LevelMeter:
    """Measures a signal hop by hop, as it is in the cache."""

    def __init__(self) -> None:
        self._num_hops = self._num_audible = 0
        self._audible_power = 0.0

    def add(self, hops: FloatArray, hop_length: int) -> None:
        """Take in samples (channel, sample); only the last block of a signal may end within a hop."""
        starts = np.arange(0, hops.shape[1], hop_length)
        sizes = np.minimum(hop_length, hops.shape[1] - starts)
        energies = np.add.reduceat(np.square(hops), starts, axis=1).sum(axis=0)
        self.add_powers(energies / (len(hops) * sizes))

    def add_powers(self, powers: npt.NDArray[np.floating]) -> None:
        """Take in the mean squares of hops (hop,)."""
        audible = powers[powers >= SILENT_POWER]
        self._num_hops += powers.size
        self._num_audible += audible.size
        self._audible_power += float(audible.sum(dtype=np.float64))

    def statistics(self, peak: float, samples: SampleMeter) -> SignalStatistics:
        """Return the statistics, with the largest magnitude and what was found in samples."""
        level_db = 10.0 * math.log10(self._audible_power / self._num_audible) if self._num_audible else SILENCE_DB
        return SignalStatistics(
            peak=peak,
            level_db=level_db,
            sample_peak=samples.sample_peak,
            silence_share=1.0 - self._num_audible / max(1, self._num_hops),
            clipping_share=samples.clipping_share,
        )
