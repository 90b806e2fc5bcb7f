"""What 1.0 stands for in the magnitudes that a network hears: one rule for every way of separating."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray

FLOOR_DB = -24.0
"""The least that 1.0 stands for, as the level of a sine in dB of full scale.

Without it the hiss before a song, or a silent input, would make full scale.
"""

MEMORY_FRAMES = 1024
"""How many frames back the loudest is looked for, in networks that have no chunks: some 24 s at the usual STFT."""


class Scale(Protocol):
    """Says what 1.0 stands for while a song's frames come."""

    def hear(self, magnitude: FloatArray) -> FloatArray:
        """Return what 1.0 stands for at each of the next frames: (frame,), from magnitudes (channel, frame, bin)."""
        ...


class AsItIs:
    """The scale of magnitudes that were scaled before: 1.0 stands for 1.0."""

    def hear(self, magnitude: FloatArray) -> FloatArray:
        """Return a one for each frame."""
        return np.ones(magnitude.shape[1], np.float32)


class LoudestOfLate:
    """What 1.0 stands for while a song goes on: the largest magnitude of the last `num_frames` frames, or the floor.

    Networks learn from magnitudes as shares of a whole song's largest, which a stream does not know before its end. A
    chunk heard at its last frame's scale, `num_frames` being its length, is heard at its own.
    """

    def __init__(self, stft: StftSpec, num_frames: int = MEMORY_FRAMES) -> None:
        # A full-scale sine has a magnitude of n_fft / 4.
        self._floor = np.float32(stft.n_fft / 4 * 10 ** (FLOOR_DB / 20))
        self._peaks = np.zeros(num_frames - 1, np.float32)  # of the frames that the next one is compared with

    def hear(self, magnitude: FloatArray) -> FloatArray:
        """Return what 1.0 stands for at each of the next frames: (frame,), from magnitudes (channel, frame, bin).

        It depends on the frame itself and those before it, however the song is cut into pieces.
        """
        if magnitude.shape[1] == 0:
            return self._peaks[:0]
        num_back = self._peaks.size
        peaks = np.concatenate((self._peaks, magnitude.max(axis=(0, 2), initial=self._floor)))
        self._peaks = peaks[peaks.size - num_back :]
        largest: FloatArray = np.lib.stride_tricks.sliding_window_view(peaks, num_back + 1).max(axis=1)
        return largest
