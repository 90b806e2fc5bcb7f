"""What an instrumental must not lose to the vocals: its bass, and its loudness at any moment.

A mean over a song hides both. A thinner bass is a few dB of a part of the spectrum that holds little of the error, and
a moment without music is a fraction of a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vrtool.audio.signal import ArraySignal
from vrtool.audio.spectrogram import StftSpec, stft_blocks
from vrtool.audio.waveform import FloatArray

BASS_HZ = 150.0
"""Bass drum and bass guitar lie below; of voices only the lowest notes of low ones."""
BASS_WINDOW_SECONDS = 0.2
"""Windows so long that what is next to BASS_HZ is told apart to 10 Hz."""
SMALLEST_BASS_SHARE_DB = -40.0
"""Music with less of its energy below BASS_HZ has no bass that could be heard: rumble would be compared."""

WINDOW_SECONDS = 0.02
"""A period of 50 Hz: the energy of windows shorter than that follows the bass's wave, not its loudness."""
DROPOUT_SECONDS = 0.1
"""What is shorter melts into a roughness; the ear gathers loudness over about this time."""
DROPOUT_DB = 10.0
"""A fall that halves loudness (Stevens, "The measurement of loudness", 1955)."""
AUDIBLE_DB = -30.0
"""Where the music is this far below its own mean there are only pauses and fades."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropouts:
    """How often the music falls away in an estimate, and for how many seconds in total."""

    count: int
    seconds: float


def bass_kept_db(truth: FloatArray, estimate: FloatArray, sample_rate: int) -> float | None:
    """Return the energy below 150 Hz of an estimated instrumental relative to the true one's, in dB, over a whole song.

    Both samples (channel, sample) of one shape. 0 where the bass is as loud as it was, negative where it has thinned
    out, -inf where nothing is left. None for music without bass (less than -40 dB of its energy). Energy is that of
    the bins with centres below 150 Hz, in Hann windows of 0.2 s a quarter apart, summed over channels.
    """
    true_bass, total = _bass_energy(truth, sample_rate)
    if true_bass <= total * 10 ** (SMALLEST_BASS_SHARE_DB / 10):
        return None
    bass, _ = _bass_energy(estimate, sample_rate)
    return -math.inf if bass == 0.0 else 10.0 * math.log10(bass / true_bass)


def find_dropouts(truth: FloatArray, estimate: FloatArray, sample_rate: int) -> Dropouts | None:
    """Return the drop-outs of an estimated instrumental: moments in which the music falls away.

    Both samples (channel, sample) of one shape. A drop-out is a run of five or more windows of 20 ms, side by side,
    in each of which the estimate's energy, summed over channels, is more than 10 dB below the true instrumental's and
    the true one is audible: at most 30 dB below its mean over the song. None for a silent true instrumental, which
    has nothing to lose.
    """
    window = max(1, round(WINDOW_SECONDS * sample_rate))
    true_energy, energy = _window_energy(truth, window), _window_energy(estimate, window)
    mean = true_energy.mean() if true_energy.size else 0.0
    if mean == 0.0:
        return None
    is_audible = true_energy >= mean * 10 ** (AUDIBLE_DB / 10)
    has_fallen = energy < true_energy * 10 ** (-DROPOUT_DB / 10)
    smallest = round(DROPOUT_SECONDS / WINDOW_SECONDS)
    runs = [length for length in _run_lengths(is_audible & has_fallen) if length >= smallest]
    return Dropouts(count=len(runs), seconds=sum(runs) * window / sample_rate)


def _bass_energy(samples: FloatArray, sample_rate: int) -> tuple[float, float]:
    """Return the energy below 150 Hz and the whole, in one arbitrary unit."""
    # Squared Hann windows a quarter apart add up to a constant: all moments weigh the same.
    quarter = max(1, round(BASS_WINDOW_SECONDS * sample_rate / 4))
    spec = StftSpec(sample_rate=sample_rate, n_fft=4 * quarter, hop_length=quarter)
    num_bass_bins = math.ceil(BASS_HZ * spec.n_fft / sample_rate)
    bass = total = 0.0
    for block in stft_blocks(ArraySignal(samples), spec):
        energy = np.square(np.abs(block), dtype=np.float64)
        bass += float(energy[:, :, :num_bass_bins].sum())
        total += float(energy.sum())
    return bass, total


def _window_energy(samples: FloatArray, window: int) -> npt.NDArray[np.float64]:
    """Return the energy of each whole window, over all channels: shape (window,)."""
    num_windows = samples.shape[1] // window
    energy = np.zeros(num_windows)
    for channel in samples:
        windows = channel[: num_windows * window].reshape(num_windows, window)
        energy += np.einsum("ws,ws->w", windows, windows, dtype=np.float64)
    return energy


def _run_lengths(flags: npt.NDArray[np.bool_]) -> Iterator[int]:
    """Yield the length of each run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.view(np.int8), [0]))))
    yield from (int(end - start) for start, end in zip(edges[::2], edges[1::2], strict=True))
