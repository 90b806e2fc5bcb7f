"""Search a whole song for the offset of a part in its mixture, at a low rate and block by block.

Each block's whitened cross-correlation is kept, those of a long song added up in stretches: their sum says where the
part lies, and they themselves how much of the song agrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vrtool.audio.formats import FloatArray
from vrtool.audio.signal import Signal, read_padded

# A different cut of a song may begin some seconds earlier; mp3 encoders add 0.05 s.
MAX_OFFSET_SECONDS = 5.0

# The low rate in Hz: below 3 kHz is most of the energy of music and voice, and all files have something there,
# whatever a codec or an earlier sample rate took away above.
COARSE_RATE = 6000

# A block is a sixteenth of the song within these bounds, so that a short song has votes to count, too. More than
# MAX_STRETCHES blocks are added up in groups, which bounds the memory of a long song.
BLOCKS_PER_SONG = 16
MIN_BLOCK_SECONDS = 0.25
MAX_BLOCK_SECONDS = 10.0
MAX_STRETCHES = 64

# A peak is this many times the RMS of its correlation (the 60,000 values of Gaussian noise reach 4.5).
MIN_PEAK = 5.0

# A stretch agrees with an offset if its correlation has a peak there, at least this share of the highest nearby. With
# a drift of 0.003 % or more (two clocks, two speeds) the highest moves away; repetitions of the music are farther off.
NEARBY_SHARE = 0.5
NEARBY_SECONDS = 0.05

# A run of the part is this long, and sounds if it has this share of the mean energy.
RUN_SECONDS = 0.1
SOUNDING_SHARE = 0.1

# Below any power of audio, above zero: for divisors.
TINY = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarseOffset:
    """Where the part lies in the mixture: its sample n at about n + `offset_samples`.

    `confidence` is the share of the song that agrees, from 0 to 1. `sounding` holds the samples (run,) of the
    part at which runs of some 0.1 s begin in which it is not silent.
    """

    offset_samples: int
    confidence: float
    sounding: npt.NDArray[np.int64]


def search_offset(mixture: Signal, part: Signal, sample_rate: int) -> CoarseOffset:
    """Return the offset of the part in the mixture, within MAX_OFFSET_SECONDS either way.

    Exact to about a sample of the low rate, for tonal music to some 10 ms. Each signal is read once from start
    to end, and memory does not grow with their length.
    """
    assert mixture.num_samples > 0
    assert part.num_samples > 0
    grid = _Grid.of(mixture.num_samples, part.num_samples, sample_rate)
    found = _correlate(mixture, part, grid)
    lag = _best_lag(found, grid)
    return CoarseOffset(
        offset_samples=lag * grid.decimation,
        confidence=_confidence(found, grid, lag),
        sounding=grid.run_edges[:-1][found.energy > SOUNDING_SHARE * found.energy.mean()] * grid.decimation,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """How the song is cut into blocks; lengths in samples of the low rate.

    The energy of the part is measured in runs between `run_edges` (run + 1,): `runs_per_block` in each block, and
    others of about that length behind the last block, as far as the part may be moved.
    """

    decimation: int
    max_lag: int
    nearby: int
    block: int
    num_blocks: int
    blocks_per_stretch: int
    runs_per_block: int
    run_edges: npt.NDArray[np.int64]

    @classmethod
    def of(cls, mixture_samples: int, part_samples: int, sample_rate: int) -> _Grid:
        decimation = max(1, round(sample_rate / COARSE_RATE))
        rate = sample_rate / decimation
        length = math.ceil(mixture_samples / decimation)
        max_lag = min(round(MAX_OFFSET_SECONDS * rate), max(length, math.ceil(part_samples / decimation)))
        wanted = min(max(length / BLOCKS_PER_SONG, MIN_BLOCK_SECONDS * rate), MAX_BLOCK_SECONDS * rate)
        num_blocks = math.ceil(length / wanted)
        # All of equal length: a short one at the end would have a correlation of a few samples, all peaks.
        block = math.ceil(length / num_blocks)
        runs_per_block = max(1, round(block / (RUN_SECONDS * rate)))
        in_block = np.linspace(0, block, runs_per_block, endpoint=False).astype(np.int64)
        in_song = (np.arange(num_blocks)[:, np.newaxis] * block + in_block).ravel()
        behind = num_blocks * block + np.arange(0, max_lag, math.ceil(block / runs_per_block))
        return cls(
            decimation=decimation,
            max_lag=max_lag,
            nearby=round(NEARBY_SECONDS * rate),
            block=block,
            num_blocks=num_blocks,
            blocks_per_stretch=math.ceil(num_blocks / MAX_STRETCHES),
            runs_per_block=runs_per_block,
            run_edges=np.concatenate([in_song, behind, [num_blocks * block + max_lag]]),
        )

    @property
    def num_stretches(self) -> int:
        return math.ceil(self.num_blocks / self.blocks_per_stretch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Correlations:
    """What a pass over the song finds.

    `whitened` (stretch, lag) and `plain` (lag,), of the whole song, are correlations of the mixture with the part
    moved by -max_lag to max_lag; `energy` (run,) is the part's, not moved.
    """

    whitened: FloatArray
    plain: npt.NDArray[np.float64]
    energy: npt.NDArray[np.float64]


def _correlate(mixture: Signal, part: Signal, grid: _Grid) -> _Correlations:
    """Return the correlations of all lags, block by block through the song.

    The whitened ones are the "phase transform" of Knapp and Carter, "The generalized correlation method for
    estimation of time delay" (1976): a peak is one sample wide however tonal the music, and a voice spoils only
    the bins in which it is.
    """
    block, max_lag = grid.block, grid.max_lag
    weights = _channel_weights(mixture, part)
    # What of the part can lie in a block: the block itself and max_lag on either side.
    window = np.zeros(block + 2 * max_lag, np.float32)
    window[block:] = _decimated(part, -max_lag, 2 * max_lag, grid.decimation, weights)
    fft_length = _fft_length(len(window))
    cross_of_song = np.zeros(fft_length // 2 + 1, np.complex128)
    whitened = np.zeros((grid.num_stretches, 2 * max_lag + 1), np.float32)
    energy = []
    runs_of_block = grid.run_edges[: grid.runs_per_block]
    for index in range(grid.num_blocks):
        start = index * block
        window[:-block] = window[block:].copy()
        window[-block:] = _decimated(part, start + max_lag, block, grid.decimation, weights)
        of_mixture = _decimated(mixture, start, block, grid.decimation, weights)
        cross = np.conj(np.fft.rfft(of_mixture, fft_length)) * np.fft.rfft(window, fft_length)
        cross_of_song += cross
        magnitude = np.abs(cross)
        # Bins 60 dB below the mean stay small: what a codec cut out has phases, too, but no meaning.
        cross /= magnitude + (1e-6 * magnitude.mean() + TINY)
        whitened[index // grid.blocks_per_stretch] += _lags(np.fft.irfft(cross, fft_length), max_lag)
        energy.append(_energy_of_runs(window[max_lag : max_lag + block], runs_of_block))
    runs_behind = grid.run_edges[grid.num_blocks * grid.runs_per_block : -1] - grid.num_blocks * block
    energy.append(_energy_of_runs(window[max_lag + block :], runs_behind))
    plain = _lags(_magnitude_between_samples(cross_of_song, fft_length), max_lag)
    return _Correlations(whitened=whitened, plain=plain, energy=np.concatenate(energy))


def _energy_of_runs(samples: FloatArray, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    energy: npt.NDArray[np.float64] = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    return energy


def _magnitude_between_samples(cross_spectrum: npt.NDArray[np.complex128], length: int) -> npt.NDArray[np.float64]:
    """Return the highest magnitude of a correlation within half a sample of each lag, (length,).

    Without the upper half of the bins, where most of what aliases is: it matches only where a lag is a whole
    number of samples of the low rate.
    """
    finer = np.abs(np.fft.irfft(cross_spectrum[: len(cross_spectrum) // 2], 4 * length))
    highest: npt.NDArray[np.float64] = np.maximum.reduce([np.roll(finer, shift)[::4] for shift in range(-2, 3)])
    return highest


def _lags(correlation: npt.NDArray[Any], max_lag: int) -> npt.NDArray[Any]:
    # A match j samples into the window, which begins max_lag before the block, is a lag of max_lag - j.
    return correlation[: 2 * max_lag + 1][::-1]


def _best_lag(found: _Correlations, grid: _Grid) -> int:
    """Return the lag of the part at which the song agrees most.

    Repeated music has a peak for each repetition, and whitening makes some higher than the true one: a louder
    one, or those at the ends of a loop. The best explains most of the mixture's energy, which by least squares is
    (m p)^2 / p^2: what hangs over the ends of the song, or lies on silence, costs a wrong repetition some of it.
    """
    total = np.abs(found.whitened.sum(0))
    beside = np.maximum(np.append(total[1:], 0.0), np.append(0.0, total[:-1]))
    is_peak = (total >= beside) & (total > MIN_PEAK * np.sqrt(np.mean(np.square(total))))
    peaks = np.flatnonzero(is_peak)
    if len(peaks) == 0:
        return 0
    lags = peaks - grid.max_lag
    energy = _energy_between(found, grid, -lags, grid.num_blocks * grid.block - lags)
    return int(lags[(found.plain[peaks] ** 2 / np.maximum(energy, TINY)).argmax()])


def _energy_between(
    found: _Correlations, grid: _Grid, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the energy of the part from `starts` to `ends`, evenly spread within runs."""
    cumulative = np.append(0.0, found.energy.cumsum())
    before_end, before_start = (np.interp(bounds, grid.run_edges, cumulative) for bounds in (ends, starts))
    energy: npt.NDArray[np.float64] = before_end - before_start
    return energy


def _votes(found: _Correlations, grid: _Grid, lag: int) -> npt.NDArray[np.float64]:
    """Return what each stretch's vote weighs: the energy of the part in it, moved by `lag`, up to the mean."""
    length = grid.blocks_per_stretch * grid.block
    starts = np.arange(grid.num_stretches) * length - lag
    energy = _energy_between(found, grid, starts, starts + length)
    votes: npt.NDArray[np.float64] = np.minimum(energy, energy.mean())
    return votes


def _confidence(found: _Correlations, grid: _Grid, lag: int) -> float:
    """Return the share of the votes of stretches whose correlations have a peak at `lag`."""
    at = grid.max_lag + lag
    magnitudes = np.abs(found.whitened)
    here = magnitudes[:, max(at - 1, 0) : at + 2].max(1)
    nearby = magnitudes[:, max(at - grid.nearby, 0) : at + grid.nearby + 1].max(1)
    rms = np.sqrt(np.mean(np.square(found.whitened), axis=1))
    votes = _votes(found, grid, lag)
    agreeing = votes[(here > MIN_PEAK * rms) & (here > NEARBY_SHARE * nearby)]
    # One stretch alone can decide which lag is best, and agrees with itself: one vote does not count.
    return float((agreeing.sum() - agreeing.max(initial=0.0)) / max(votes.sum(), TINY))


def _fft_length(minimum: int) -> int:
    """Return the first 2^k or 3 * 2^k that is not below `minimum`."""
    power = 1 << (minimum - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= minimum else power


def _channel_weights(mixture: Signal, part: Signal) -> FloatArray | None:
    """Return the weights (channel,) of the mono mix of both signals, None for the mean.

    Where both are stereo they are unequal, as a song with one channel inverted would vanish in the mean.
    """
    return np.array([0.75, 0.25], np.float32) if mixture.num_channels == part.num_channels == 2 else None


def _decimated(signal: Signal, start: int, count: int, decimation: int, weights: FloatArray | None) -> FloatArray:
    """Return `count` samples (sample,) of the low rate from `start` on, mono; silence outside of the signal.

    Means of `decimation` samples: what aliases is far below the music, and adds but a little noise.
    """
    samples = read_padded(signal, start * decimation, count * decimation)
    if weights is None:
        weights = np.full(len(samples), 1 / len(samples), np.float32)
    groups = samples.reshape(-1, count, decimation)
    # Not a matrix product: BLAS would start threads for it, which cost more than the sums.
    sums = groups[..., 0].copy()
    for index in range(1, decimation):
        sums += groups[..., index]
    mono: FloatArray = (weights[:, np.newaxis] * sums).sum(0) / np.float32(decimation)
    return mono
