"""How a part (instrumental or vocals) lies in its mixture: a constant offset, a gain with polarity, a confidence.

A search of the whole song at a low rate finds the offset roughly; pieces spread over the song at the full rate, where
the part sounds, give the sample and the gain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vrtool.audio.formats import FloatArray
from vrtool.audio.offset_search import MAX_OFFSET_SECONDS, TINY, search_offset
from vrtool.audio.signal import Signal, read_padded
from vrtool.audio.spectrogram import ComplexArray, hann_window

__all__ = ["MAX_OFFSET_SECONDS", "MIN_CONFIDENCE", "Alignment", "align"]

# Below it, the two files are not of one recording, or not at one speed. Of 38 real songs, the halves of a song were at
# 0.84 and above (0.71 with the vocals at -20 dB, 0.47 in excerpts of 20 s), two different songs at 0 (0.23 in excerpts
# of 3 s).
MIN_CONFIDENCE = 0.4

# A part 30 dB below the mixture where it sounds is not heard in it. Short excerpts of different songs may agree on an
# offset by chance, where two attacks fall together, but never on a gain: they stay below -40 dB.
MIN_POWER_SHARE = 1e-3

# Up to 64 pieces of 8 frames, 48 s at 44.1 kHz: all of a short song, a fifth of a long one.
FRAME = 4096
FRAMES_PER_PIECE = 8
MAX_PIECES = 64

# In samples: more than a sample of the low rate, as the search may be out by a period of a tone in a short song.
FINE_LAG = 512

# Bins per cell of the gain: some 170 Hz by 0.1 s, small enough to lie between the notes and words of a voice.
CELL_BINS = 16

# Codecs leave errors of -15 dB and less beside the loudest: no cell is counted better than that, as a share.
CODEC_NOISE = 0.03
GAIN_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Where and how strong a part is in its mixture.

    The part's sample n lies at the mixture's sample n + `offset_samples`, times `gain`, which is linear and
    negative where the polarity is inverted. `confidence`, from 0 to 1, is the share of the song that agrees with
    this offset; below MIN_CONFIDENCE the other two mean nothing.
    """

    offset_samples: int
    gain: float
    confidence: float


NOT_FOUND = Alignment(offset_samples=0, gain=1.0, confidence=0.0)


def align(mixture: Signal, part: Signal, sample_rate: int) -> Alignment:
    """Return how `part` lies in `mixture`, both at `sample_rate` Hz and of 1 or 2 channels, not always as many.

    Whatever else is in the mixture counts as noise, down to a part 20 dB below it. Offsets up to
    MAX_OFFSET_SECONDS are found. Where nothing is, as in silence, confidence is 0, the offset 0 and the gain 1.
    """
    coarse = search_offset(mixture, part, sample_rate)
    if coarse.confidence == 0.0:
        return NOT_FOUND
    offset = _fine_offset(mixture, part, coarse.offset_samples, coarse.sounding)
    gain, share = _gain_and_share(mixture, part, offset, coarse.sounding)
    if share < MIN_POWER_SHARE:
        return NOT_FOUND
    return Alignment(offset_samples=offset, gain=gain, confidence=coarse.confidence)


def _spectra(
    mixture: Signal, part: Signal, offset: int, sounding: npt.NDArray[np.int64]
) -> Iterator[tuple[ComplexArray, ComplexArray]]:
    """Yield spectra of the mixture and of the part moved by `offset`, both complex64 (channel, frame, bin).

    Of pieces spread evenly over the samples `sounding` of the part, as far as the two overlap. Two channels are
    mid and side: voices are mostly in the middle, which leaves music alone in the side.
    """
    count = FRAMES_PER_PIECE * FRAME
    first, last = max(0, offset), min(mixture.num_samples, part.num_samples + offset)
    apart = sounding[np.unique(sounding // count, return_index=True)[1]]
    chosen = apart[np.linspace(0, len(apart) - 1, min(MAX_PIECES, len(apart))).astype(np.int64)]
    starts = np.unique(np.clip(chosen + offset, first, max(first, last - count)))
    as_stereo = mixture.num_channels == part.num_channels == 2
    for start in starts.tolist():
        of_mixture = read_padded(mixture, start, count)
        of_part = read_padded(part, start - offset, count)
        mix = _mid_and_side if as_stereo else _mean
        yield _frame_spectra(mix(of_mixture)), _frame_spectra(mix(of_part))


def _mid_and_side(samples: FloatArray) -> FloatArray:
    left, right = samples
    return np.stack([(left + right) / 2, (left - right) / 2])


def _mean(samples: FloatArray) -> FloatArray:
    mono: FloatArray = samples.mean(0, keepdims=True)
    return mono


def _frame_spectra(samples: FloatArray) -> ComplexArray:
    """Return the spectra (channel, frame, bin) of whole frames side by side, under a Hann window."""
    frames = samples.reshape(len(samples), -1, FRAME) * hann_window(FRAME)
    return np.fft.rfft(frames).astype(np.complex64, copy=False)


def _fine_offset(mixture: Signal, part: Signal, coarse: int, sounding: npt.NDArray[np.int64]) -> int:
    """Return the offset to the sample, at most FINE_LAG samples from `coarse`.

    Where the cross-spectrum, divided by its magnitude to the power of 3/4, has its peak: between plain correlation,
    which is broad for tonal music, and phases alone. Those are misled by mp3's filter bank, whose errors in weak bins
    repeat every 32 samples in both halves (17 of 88 real pairs were out by some samples, with 3/4 none). The
    "PHAT-beta" of Donohue, Hannemann and Dietz, "Performance of phase transform for detecting sound sources with
    microphone arrays in reverberant and noisy environments" (2007), who suggest 0.5 to 0.7 for theirs.
    """
    total = np.zeros(FRAME // 2 + 1, np.complex128)
    for of_mixture, of_part in _spectra(mixture, part, coarse, sounding):
        cross = of_mixture * np.conj(of_part)
        root = np.sqrt(np.abs(cross) + TINY)
        total += (cross / (root * np.sqrt(root))).sum((0, 1))
    correlation = np.abs(np.fft.irfft(total))
    lags = np.arange(-FINE_LAG, FINE_LAG + 1)
    return coarse + int(lags[correlation[lags].argmax()])


def _gain_and_share(mixture: Signal, part: Signal, offset: int, sounding: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return what the part at `offset` is multiplied by in the mixture, and the share of its power it then has.

    The gain is linear, with its sign: a weighted median, over cells of time and frequency, of the ratio that least
    squares finds in each. A cell weighs as much as the part's energy there is above what is beside it in the
    mixture, hence those without voice decide. What is beside it depends on the gain, in turn; a few rounds settle
    it. (Coherence tells nearly the same in one round, but favours cells in which the voice happens to add to the
    part: +0.1 dB for a part at -20 dB.)
    """
    cells = [
        (_cells((of_mixture * np.conj(of_part)).real), _cells(_power(of_part)), _cells(_power(of_mixture)))
        for of_mixture, of_part in _spectra(mixture, part, offset, sounding)
    ]
    cross, part_power, mixture_power = (np.concatenate(sums) for sums in zip(*cells, strict=True))
    audible = part_power > 1e-9 * part_power.mean()
    if not audible.any():
        return 0.0, 0.0
    cross, part_power, mixture_power = cross[audible], part_power[audible], mixture_power[audible]
    ratios = cross / part_power
    gain = _weighted_median(ratios, part_power)
    for _ in range(GAIN_ROUNDS):
        beside = np.maximum(mixture_power - 2 * gain * cross + gain**2 * part_power, TINY)
        gain = _weighted_median(ratios, part_power**2 / (beside + CODEC_NOISE * gain**2 * part_power))
    return gain, float(gain**2 * part_power.sum() / max(mixture_power.sum(), TINY))


def _cells(values: FloatArray) -> npt.NDArray[np.float64]:
    """Return the sums (cell,) over runs of CELL_BINS bins of (channel, frame, bin), of the lower half of the bins.

    Above is little energy, and what codecs change most.
    """
    lower = values[..., : values.shape[-1] // 2 // CELL_BINS * CELL_BINS]
    sums = lower.reshape(*lower.shape[:-1], -1, CELL_BINS).sum(-1, dtype=np.float64)
    cells: npt.NDArray[np.float64] = sums.ravel()
    return cells


def _power(spectra: ComplexArray) -> FloatArray:
    power: FloatArray = np.square(spectra.real) + np.square(spectra.imag)
    return power


def _weighted_median(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    order = values.argsort()
    cumulative = weights[order].cumsum()
    return float(values[order][np.searchsorted(cumulative, cumulative[-1] / 2)])
