"""Decode a track's signals from the files behind them."""

from __future__ import annotations

import numpy as np

from vrtool.audio.waveform import FloatArray, Waveform, read_audio, resample
from vrtool.dataset.track import Source
from vrtool.errors import AudioError

# Files of one recording, encoded one by one, differ by a codec's padding; by more, they are not one
# recording.
TOLERATED_SECONDS = 0.5


def read_sources(sources: tuple[Source, ...], *, sample_rate: int | None = None) -> Waveform:
    """Return the gain-weighted sum of audio files, at `sample_rate` or else at the highest of their own.

    Mono files are broadcast to the channels of the others, and all are cut to the shortest. Raises AudioError
    if a file cannot be decoded, if channels do not fit, or if lengths differ by more than half a second;
    InputError if a file is missing.
    """
    waveforms = [read_audio(source.path) for source in sources]
    rate = sample_rate or max(waveform.sample_rate for waveform in waveforms)
    resampled = [resample(waveform, rate) for waveform in waveforms]
    _check_alike(sources, resampled)
    if len(sources) == 1 and sources[0].gain == 1.0:
        return resampled[0]
    num_channels = max(waveform.num_channels for waveform in resampled)
    num_samples = min(waveform.num_samples for waveform in resampled)
    total: FloatArray = np.zeros((num_channels, num_samples), np.float32)
    for source, waveform in zip(sources, resampled, strict=True):
        total += np.float32(source.gain) * waveform.samples[:, :num_samples]
    return Waveform(samples=total, sample_rate=rate)


def _check_alike(sources: tuple[Source, ...], waveforms: list[Waveform]) -> None:
    """Raise AudioError unless the waveforms can be added, naming the two files that differ."""
    channels = [(waveform.num_channels, source.path) for source, waveform in zip(sources, waveforms, strict=True)]
    widest = max(channels)
    for count, path in channels:
        if count not in (1, widest[0]):
            raise AudioError(
                f"{path}: expected 1 or {widest[0]} channels as in {widest[1].name}, found {count}; export both alike"
            )
    lengths = [(waveform.duration_seconds, source.path) for source, waveform in zip(sources, waveforms, strict=True)]
    shortest, longest = min(lengths), max(lengths)
    if longest[0] - shortest[0] > TOLERATED_SECONDS:
        raise AudioError(
            f"{shortest[1]}: expected {longest[0]:.2f} s of audio as in {longest[1].name}, found {shortest[0]:.2f} s; "
            f"they may differ by {TOLERATED_SECONDS} s at most, cut them alike"
        )
