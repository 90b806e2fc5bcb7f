"""Better masks for more time: means over several networks, over shifted chunks and over exchanged channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vrtool.audio.array_queue import ArrayQueue
from vrtool.audio.waveform import FloatArray
from vrtool.separation.masks import Masks


class MeanMasks:
    """The mean of several masks of the same song, each frame as soon as all of them are known."""

    def __init__(self, members: Sequence[Masks]) -> None:
        assert members
        self._members = members
        self._known: list[ArrayQueue[np.float32]] | None = None  # of each member, what others still owe

    def push(self, magnitude: FloatArray) -> FloatArray:
        """Take the next frames; see Masks."""
        if self._known is None:
            self._known = [ArrayQueue(magnitude[:, :0]) for _ in self._members]
        return self._mean([member.push(magnitude) for member in self._members])

    def finish(self) -> FloatArray:
        """Return the masks still owed; see Masks."""
        return self._mean([member.finish() for member in self._members])

    def _mean(self, masks: Sequence[FloatArray]) -> FloatArray:
        assert self._known is not None, "one frame or more was pushed"
        for queue, mask in zip(self._known, masks, strict=True):
            queue.append(mask)
        count = min(len(queue) for queue in self._known)
        mean: FloatArray = np.mean([queue.take(count) for queue in self._known], axis=0)
        return mean


class ShiftedMasks:
    """The masks of a song that begins after `num_frames` frames of silence, without these: other chunk borders."""

    def __init__(self, masks: Masks, num_frames: int) -> None:
        self._masks = masks
        self._silent_frames = num_frames
        self._owed_frames = num_frames  # of masks of the silence

    def push(self, magnitude: FloatArray) -> FloatArray:
        """Take the next frames; see Masks."""
        if self._silent_frames and magnitude.shape[1]:
            silence = np.zeros((len(magnitude), self._silent_frames, magnitude.shape[2]), np.float32)
            magnitude, self._silent_frames = np.concatenate((silence, magnitude), axis=1), 0
        return self._of_song(self._masks.push(magnitude))

    def finish(self) -> FloatArray:
        """Return the masks still owed; see Masks."""
        return self._of_song(self._masks.finish())

    def _of_song(self, mask: FloatArray) -> FloatArray:
        num_silent = min(self._owed_frames, mask.shape[1])
        self._owed_frames -= num_silent
        return mask[:, num_silent:]


class SwappedMasks:
    """The masks of a song whose left and right are exchanged, exchanged back."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks

    def push(self, magnitude: FloatArray) -> FloatArray:
        """Take the next frames; see Masks."""
        return self._masks.push(magnitude[::-1])[::-1]

    def finish(self) -> FloatArray:
        """Return the masks still owed; see Masks."""
        return self._masks.finish()[::-1]
