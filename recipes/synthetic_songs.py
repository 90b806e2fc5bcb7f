"""Makes a little library of synthetic songs: a stand-in for real music where none is at hand.

    python recipes/synthetic_songs.py FOLDER

Writes FOLDER/instrumentals, FOLDER/vocals, FOLDER/pairs and, for judging, FOLDER/unseen. The instrumentals are chords,
bass and drums; the "vocals" a source-filter voice: a pulse train with vibrato through the formants of five vowels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vrtool.audio.waveform import Waveform, write_audio

Signal = npt.NDArray[np.float64]

SAMPLE_RATE = 44100
SECONDS = 16
NUM_SAMPLES = SECONDS * SAMPLE_RATE
NUM_INSTRUMENTALS, NUM_VOCALS, NUM_PAIRS = 10, 10, 4
MUSIC_RMS, VOCALS_RMS = 0.08, 0.06
SCALE_STEPS = (0, 2, 4, 5, 7, 9, 11)  # a major scale, in semitones
# First three formants of sung vowels in Hz (Peterson and Barney 1952, men's averages, table II).
VOWELS_HZ = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
FORMANT_WIDTH_HZ = 110.0


def main() -> None:
    """Write the library into the folder named on the command line."""
    folder = Path(sys.argv[1])
    rng = np.random.default_rng(1)
    for number in range(NUM_INSTRUMENTALS):
        save(folder / "instrumentals" / f"instrumental {number + 1}.wav", instrumental(rng))
    for number in range(NUM_VOCALS):
        save(folder / "vocals" / f"voice {number + 1}.wav", vocals(rng))
    songs = [folder / "pairs" / f"song {number + 1}" for number in range(NUM_PAIRS)] + [folder / "unseen" / "song"]
    for song in songs:
        parts = {"instrumental": instrumental(rng), "vocals": vocals(rng)}
        for name, signal in {**parts, "mixture": parts["instrumental"] + parts["vocals"]}.items():
            save(song / f"{name}.wav", signal)


def save(path: Path, signal: Signal) -> None:
    """Write a stereo signal as a 16-bit wav file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waveform = Waveform(samples=signal.astype(np.float32), sample_rate=SAMPLE_RATE)
    write_audio(path, waveform, subtype="16")


def instrumental(rng: np.random.Generator) -> Signal:
    """Return chords, bass and drums in a random key and tempo: shape (2, sample)."""
    key_hz = 55.0 * 2.0 ** (rng.integers(12) / 12)
    beat = int(SAMPLE_RATE * 60 / rng.uniform(80, 140))
    signal = np.zeros((2, NUM_SAMPLES))
    decay_seconds, brightness = rng.uniform(0.4, 1.5), rng.uniform(0.8, 1.6)
    for start in range(0, NUM_SAMPLES, 4 * beat):
        root = int(rng.choice([0, 3, 4, 5]))
        for voice in (0, 2, 4):
            pitch_hz = 4 * key_hz * semitones(degree(root + voice))
            pan = rng.uniform(0.3, 0.7)
            for stroke in range(0, 4 * beat, beat * int(rng.choice([1, 2]))):
                add(signal, start + stroke, 0.12 * pluck(pitch_hz, 2 * beat, decay_seconds, brightness), pan)
        for stroke in range(0, 4 * beat, beat):
            add(signal, start + stroke, 0.25 * pluck(key_hz * semitones(degree(root)), beat, 0.5, 2.0), 0.5)
    for number, start in enumerate(range(0, NUM_SAMPLES, beat // 2)):
        if number % 4 == 0:
            add(signal, start, 0.4 * kick(), 0.5)
        if number % 4 == 2:
            add(signal, start, 0.25 * noise_burst(rng, 0.12, 0.0), 0.5)
        add(signal, start, 0.06 * noise_burst(rng, 0.04, 0.95), 0.6)
    return at_level(signal, MUSIC_RMS)


def vocals(rng: np.random.Generator) -> Signal:
    """Return a sung line with rests, in the middle of the stereo image: shape (2, sample)."""
    key_hz = 110.0 * 2.0 ** (rng.integers(18) / 12)
    signal = np.zeros((2, NUM_SAMPLES))
    start, step = 0, 3
    while start < NUM_SAMPLES:
        length = int(SAMPLE_RATE * rng.uniform(0.2, 0.9))
        step = int(np.clip(step + rng.integers(-2, 3), 0, 9))
        if rng.random() < 0.8:
            add(signal, start, 0.5 * note(rng, key_hz * semitones(degree(step)), length), 0.5)
        start += length
    return at_level(signal, VOCALS_RMS)


def at_level(signal: Signal, rms: float) -> Signal:
    """Return the signal brought to a root mean square, as a mixing desk balances voice and band."""
    return signal * float(rms / np.sqrt(np.mean(np.square(signal))))


def degree(step: int) -> int:
    """Return the semitones above the key of a step of the scale."""
    return SCALE_STEPS[step % 7] + 12 * (step // 7)


def semitones(count: int) -> float:
    """Return an interval as a frequency ratio."""
    return float(2.0 ** (count / 12))


def add(signal: Signal, start: int, sound: Signal, pan: float) -> None:
    """Add a mono sound at a position, `pan` from 0 (left) to 1 (right); what lies beyond the end is dropped."""
    room = signal[:, start : start + sound.size]
    for channel, gain in enumerate((np.cos(pan * np.pi / 2), np.sin(pan * np.pi / 2))):
        room[channel] += gain * sound[: room.shape[1]]


def pluck(pitch_hz: float, num_samples: int, decay_seconds: float, brightness: float) -> Signal:
    """Return a plucked string: partials that fall with their number and decay the faster the higher they are."""
    seconds = np.arange(num_samples) / SAMPLE_RATE
    sound = np.zeros(num_samples)
    for partial in range(1, 9):
        envelope = np.exp(-seconds * (1 + 0.3 * partial) / decay_seconds)
        sound += partial**-brightness * envelope * np.sin(2 * np.pi * partial * pitch_hz * seconds)
    return sound * fade(num_samples, 0.004)


def kick() -> Signal:
    """Return a drum whose pitch falls."""
    seconds = np.arange(int(0.25 * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(50 + 120 * np.exp(-seconds * 40)) / SAMPLE_RATE
    return np.sin(phase) * np.exp(-seconds * 14)


def noise_burst(rng: np.random.Generator, decay_seconds: float, highpass: float) -> Signal:
    """Return decaying noise, its lows removed the more the nearer `highpass` is to 1."""
    noise = rng.standard_normal(int(5 * decay_seconds * SAMPLE_RATE))
    noise[1:] -= highpass * noise[:-1]
    return noise * np.exp(-np.arange(noise.size) / (decay_seconds * SAMPLE_RATE))


def note(rng: np.random.Generator, pitch_hz: float, num_samples: int) -> Signal:
    """Return one sung note: harmonics with vibrato, shaped by the formants of a vowel that glides to another."""
    seconds = np.arange(num_samples) / SAMPLE_RATE
    vibrato = 1 + 0.02 * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * seconds) * np.minimum(seconds / 0.2, 1)
    phase = 2 * np.pi * np.cumsum(pitch_hz * vibrato) / SAMPLE_RATE
    first, second = (np.array(VOWELS_HZ[index]) for index in rng.integers(len(VOWELS_HZ), size=2))
    glide = np.linspace(0, 1, num_samples)[:, None]
    formants_hz = first * (1 - glide) + second * glide
    sound = np.zeros(num_samples)
    for harmonic in range(1, int(5000 / pitch_hz) + 1):
        distance = (harmonic * pitch_hz - formants_hz) / FORMANT_WIDTH_HZ
        sound += (1 / (1 + distance**2)).sum(axis=1) * np.sin(harmonic * phase)
    breath = 0.02 * rng.standard_normal(num_samples)
    return (sound + breath) * fade(num_samples, 0.03)


def fade(num_samples: int, seconds: float) -> Signal:
    """Return an envelope that rises and falls within `seconds`."""
    edge = np.arange(num_samples) / (seconds * SAMPLE_RATE)
    return np.minimum(1, np.minimum(edge, edge[::-1]))


if __name__ == "__main__":
    main()
