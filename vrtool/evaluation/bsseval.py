"""BSSEval, version 4: how much of an estimate is its source, a filtered source, other sources, or none of these.

Each estimate is projected onto what filters of 512 taps can make of its own true source, and of all true sources
(Vincent, Gribonval and Févotte, "Performance measurement in blind audio source separation", 2006; the images version).
The filters are those of the whole song, and ratios are taken in frames of one second (Stöter, Liutkus and Ito, "The
2018 Signal Separation Evaluation Campaign", 2018). Numbers agree with those of the package museval, which takes five
times as long, holds a song's spectrum in memory several times and cannot be imported without ffmpeg's programs.

All audio is rounded to 16 bits first, as it is in the files of such campaigns. Where a lossy file holds nothing above
16 kHz, any filter would do there; unless that noise chooses one, rounding in the arithmetic chooses one that shouts,
and frames, whose filtering begins in silence, are full of it: an SIR of -30 dB that should be 17.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.linalg

from vrtool.audio.waveform import FloatArray

Array = npt.NDArray[np.float64]

FILTER_TAPS = 512
FRAME_SECONDS = 1.0
BLOCK_SAMPLES = 1 << 16
"""Length of the transforms of which correlations are summed up."""
TRACE_OF_NOISE = 1e-10
"""Energy relative to the sources' mean: far below what any recording resolves, far above rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BssScores:
    """Medians over frames, in dB: source to distortion, image to spatial distortion, to interference, to artifacts."""

    sdr_db: float
    isr_db: float
    sir_db: float
    sar_db: float


class BssEval:
    """Judges estimates of the sources of one song, whose own correlations are computed once for all of them.

    `sources` are samples (channel, sample) of one shape. If one of them is silent there are no scores: it takes two
    sources that are heard to tell interference.
    """

    def __init__(self, sources: Sequence[FloatArray], sample_rate: int) -> None:
        self._sources = [_in_16_bits(source) for source in sources]
        self._num_channels, self._num_samples = sources[0].shape
        self._frame = min(round(FRAME_SECONDS * sample_rate), self._num_samples)
        self._is_defined = all(source.any() for source in self._sources)
        if self._is_defined:
            gram = _gram(_correlations(self._channels(), self._channels()))
            self._of_all = _Projection(gram)
            size = self._num_channels * FILTER_TAPS
            self._of_one = [
                _Projection(gram[start : start + size, start : start + size]) for start in range(0, len(gram), size)
            ]

    def score(self, estimates: Sequence[FloatArray | None]) -> list[BssScores | None]:
        """Return the scores of an estimate of each source: samples (channel, sample), or None where there is none.

        Frames in which a source or an estimate is silent are left out, as in SiSEC; None if that leaves no frame.
        """
        if not self._is_defined:
            return [None for _ in estimates]
        rounded = [None if estimate is None else _in_16_bits(estimate) for estimate in estimates]
        return [_median(frames) for frames in self._frame_ratios(rounded)]

    def _frame_ratios(self, estimates: Sequence[FloatArray | None]) -> list[list[tuple[float, ...]]]:
        """Return SDR, ISR, SIR and SAR of the frames of each estimate that have them."""
        filters = [
            None if estimate is None else self._filters(number, estimate) for number, estimate in enumerate(estimates)
        ]
        frames: list[list[tuple[float, ...]]] = [[] for _ in estimates]
        for start in range(0, self._num_samples - self._frame + 1, self._frame):
            within = slice(start, start + self._frame)
            spectra = self._spectra(within)
            pieces = [estimate[:, within] for estimate in estimates if estimate is not None]
            if spectra is None or not all(piece.any() for piece in pieces):
                continue
            for number, (estimate, chosen) in enumerate(zip(estimates, filters, strict=True)):
                if estimate is not None and chosen is not None:
                    own = spectra[number * self._num_channels : (number + 1) * self._num_channels]
                    # Above the filtered own source lie all sources, filtered.
                    projections = [self._filtered(own, chosen[0]), self._filtered(spectra, chosen[1])]
                    frames[number].append(_ratios(self._sources[number][:, within], estimate[:, within], *projections))
        return frames

    def _channels(self) -> list[FloatArray]:
        """Return all channels of all sources, each (sample,)."""
        return [channel for source in self._sources for channel in source]

    @property
    def _fft_length(self) -> int:
        return int(scipy.fft.next_fast_len(self._frame + FILTER_TAPS - 1, real=True))

    def _filters(self, number: int, estimate: FloatArray) -> tuple[npt.NDArray[np.complex128], ...]:
        """Return the spectra (input, output, bin) of the best filters from one source, and from all, to an estimate."""
        products = _correlations(self._channels(), list(estimate))  # (input, output, tap)
        own = slice(number * self._num_channels, (number + 1) * self._num_channels)
        taps = (self._of_one[number].solve(products[own]), self._of_all.solve(products))
        return tuple(scipy.fft.rfft(filters, self._fft_length) for filters in taps)

    def _spectra(self, within: slice) -> npt.NDArray[np.complex128] | None:
        """Return a frame's spectra (input, bin) of all channels of all sources; None if a source is silent in it."""
        if any(not source[:, within].any() for source in self._sources):
            return None
        channels = np.stack([channel[within] for channel in self._channels()]).astype(np.float64)
        spectra: npt.NDArray[np.complex128] = scipy.fft.rfft(channels, self._fft_length)
        return spectra

    def _filtered(self, spectra: npt.NDArray[np.complex128], filters: npt.NDArray[np.complex128]) -> Array:
        """Return the sum of filtered inputs, with the filters' tail: (output, frame's samples + taps - 1)."""
        summed = np.einsum("if,iof->of", spectra, filters)
        filtered: Array = scipy.fft.irfft(summed, self._fft_length)[:, : self._frame + FILTER_TAPS - 1]
        return filtered


class _Projection:
    """Solves for the filters whose output is nearest to an estimate, given the sources' own correlations."""

    def __init__(self, gram: Array) -> None:
        self._gram = gram

    def solve(self, products: Array) -> Array:
        """Return filters (input, output, tap) given the correlations (input, output, tap) of inputs and outputs."""
        num_inputs, num_outputs, num_taps = products.shape
        right = products.transpose(0, 2, 1).reshape(num_inputs * num_taps, num_outputs)
        solved = scipy.linalg.cho_solve(self._factor, right)
        filters: Array = solved.reshape(num_inputs, num_taps, num_outputs).transpose(0, 2, 1)
        return filters

    @cached_property
    def _factor(self) -> tuple[Array, bool]:
        try:
            factor: tuple[Array, bool] = scipy.linalg.cho_factor(self._gram)
        except np.linalg.LinAlgError:
            # Sources that are copies of one another, such as both sides of a mono recording, leave a choice of
            # filters, all with the same output. A trace of noise on the sources chooses those of least energy.
            ridge = TRACE_OF_NOISE * np.mean(np.diag(self._gram)) * np.eye(len(self._gram))
            factor = scipy.linalg.cho_factor(self._gram + ridge)
        return factor


def _in_16_bits(samples: FloatArray) -> FloatArray:
    """Return samples rounded to what 16 bits hold, though not clipped to it."""
    rounded: FloatArray = samples * np.float32(1 << 15)
    np.rint(rounded, out=rounded)
    rounded /= np.float32(1 << 15)
    return rounded


def _correlations(left: Sequence[FloatArray], right: Sequence[FloatArray]) -> Array:
    """Return sum over t of left[t - tap] right[t] for each pair of signals (sample,): (left, right, tap)."""
    # Each block of the right signals meets what of the left ones lies up to 511 samples before; as the block is
    # preceded by as many zeros, nothing wraps around, and blocks can be added as spectra.
    history = FILTER_TAPS - 1
    step = BLOCK_SAMPLES - history
    total = np.zeros((len(left), len(right), BLOCK_SAMPLES // 2 + 1), np.complex128)
    for start in range(0, len(left[0]), step):
        before = np.stack([_stretch(channel, start - history, start + step) for channel in left])
        block = np.stack([_stretch(channel, start, start + step) for channel in right])
        block = np.pad(block, ((0, 0), (history, 0)))
        total += np.conj(scipy.fft.rfft(before))[:, None] * scipy.fft.rfft(block)[None]
    products: Array = scipy.fft.irfft(total, BLOCK_SAMPLES)[:, :, :FILTER_TAPS]
    return products


def _stretch(channel: FloatArray, start: int, end: int) -> Array:
    """Return samples `start` to `end` of a signal that silence surrounds."""
    within = channel[max(0, start) : end].astype(np.float64)
    return np.pad(within, (max(0, -start), end - max(0, start) - len(within)))


def _gram(products: Array) -> Array:
    """Return the inner products of all delayed signals, (input x tap, input x tap), given their correlations."""
    blocks = [
        [scipy.linalg.toeplitz(products[i, j], products[j, i]) for j in range(len(products))]
        for i in range(len(products))
    ]
    gram: Array = np.block(blocks)
    return gram


def _ratios(source: FloatArray, estimate: FloatArray, of_own: Array, of_all: Array) -> tuple[float, ...]:
    """Return SDR, ISR, SIR and SAR of a frame, given both projections, which are longer by the filters' tail."""
    tail = ((0, 0), (0, of_own.shape[1] - source.shape[1]))
    truth, guess = (np.pad(samples.astype(np.float64), tail) for samples in (source, estimate))
    return (
        _decibels(truth, guess - truth),
        _decibels(truth, of_own - truth),
        _decibels(of_own, of_all - of_own),
        _decibels(of_all, guess - of_all),
    )


def _decibels(wanted: Array, unwanted: Array) -> float:
    signal, error = float(np.vdot(wanted, wanted)), float(np.vdot(unwanted, unwanted))
    if error == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / error) if signal > 0.0 else -math.inf


def _median(frames: list[tuple[float, ...]]) -> BssScores | None:
    if not frames:
        return None
    sdr, isr, sir, sar = (float(value) for value in np.median(frames, axis=0))
    return BssScores(sdr_db=sdr, isr_db=isr, sir_db=sir, sar_db=sar)
