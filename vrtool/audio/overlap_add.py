"""Overlap-add: windowed frames back to the signal that fits them best, as they come."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vrtool.audio.formats import FloatArray


class OverlapAdd:
    """Adds up frames of `window.size` samples that begin `hop_length` samples apart, the first one at sample 0.

    The sum is divided by that of the squared windows, which makes it the signal whose own frames are nearest in the
    least-squares sense (Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984,
    equation 6). A sample is given as soon as no later frame reaches back to it.
    """

    def __init__(self, window: FloatArray, hop_length: int, num_channels: int) -> None:
        # It is done hop by hop: a frame is `num_parts` rows of one hop (the last filled up with zeros when the hop does
        # not divide the window), and part k of frame t is added to row t + k. No loop over frames is needed.
        self._window = window
        self._num_parts = math.ceil(window.size / hop_length)
        squares = np.zeros(self._num_parts * hop_length)
        squares[: window.size] = np.square(window, dtype=np.float64)
        self._squares = squares.reshape(self._num_parts, hop_length)
        # Row r has the parts 0 to r on it, and from the last part's on every row has all of them.
        self._divisors = _divisor(np.cumsum(self._squares, axis=0))
        # Sums in float64: with a small hop they have hundreds of terms. `_carry` is what the frames so far began.
        self._carry = np.zeros((num_channels, self._num_parts - 1, hop_length))
        self._num_frames = 0

    def push(self, frames: FloatArray) -> FloatArray:
        """Take the next frames, (channel, frame, sample of the frame), not windowed; return a hop of signal for each.

        Float32 (channel, sample), the samples from each frame's first one up to the next frame's.
        """
        num_channels, count, length = frames.shape
        hop = self._squares.shape[1]
        windowed = np.zeros((num_channels, count, self._num_parts * hop), np.float32)
        np.multiply(frames, self._window, out=windowed[:, :, :length])
        parts = windowed.reshape(num_channels, count, self._num_parts, hop)
        sums = np.zeros((num_channels, count + self._num_parts - 1, hop))
        sums[:, : self._num_parts - 1] = self._carry
        for part in range(self._num_parts):
            sums[:, part : part + count] += parts[:, :, part]
        self._carry = sums[:, count:].copy()
        rows = sums[:, :count].astype(np.float32)
        num_begun = max(0, self._num_parts - 1 - self._num_frames)
        rows[:, :num_begun] /= self._divisors[self._num_frames : self._num_frames + count][:num_begun]
        rows[:, num_begun:] /= self._divisors[-1]
        self._num_frames += count
        return rows.reshape(num_channels, -1)

    def finish(self) -> FloatArray:
        """Return what lies under the last frames' ends, where no later frame came: float32 (channel, sample)."""
        rows = self._carry.astype(np.float32)
        for row in range(self._num_parts - 1):
            # Its first part is that of the last frame, its last part that of the first frame if that reaches so far.
            rows[:, row] /= _divisor(self._squares[row + 1 : row + 1 + self._num_frames].sum(0))
        return rows.reshape(len(rows), -1)


def _divisor(squares: npt.NDArray[np.float64]) -> FloatArray:
    # Close to zero only at the outer feet of the first and last window, outside of the signal.
    return np.maximum(squares, 1e-3).astype(np.float32)
