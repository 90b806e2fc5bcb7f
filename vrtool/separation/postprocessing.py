"""Stretches without vocals given back to the instrumental as they are: the artifact merging of the ancestor.

Where nobody sings a network still takes a little of the music for voice. Frames of which the instrumental has more
than `THRESHOLD` of every bin form runs; in runs of more than `MIN_FRAMES` the mask is faded to 1 and, at the end, back.
After the inference of carperbr's vocal-remover-frame-transformer (May 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vrtool.audio.array_queue import ArrayQueue
from vrtool.audio.waveform import FloatArray
from vrtool.separation.masks import Masks

THRESHOLD = 0.05
MIN_FRAMES = 64
FADE_FRAMES = 32
LOOK_AHEAD_FRAMES = 3 * FADE_FRAMES + MIN_FRAMES + 2
"""After so many frames nothing changes a frame's weight: a run that begins less than a fade after the end of another,
and turns out to be long, is faded in two fades before that end."""


@dataclass(slots=True, kw_only=True)
class Run:
    """Frames `first` to `last` of a song, both included, that have no vocals."""

    first: int
    last: int

    @property
    def is_long(self) -> bool:
        """Whether the run is more than a gap between two words."""
        return self.last - self.first > MIN_FRAMES


class MergedMasks:
    """Masks whose long stretches without vocals are 1; each frame as soon as its surroundings are known."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._waiting: ArrayQueue[np.float32] | None = None  # masks from frame `_num_given` on
        self._num_given = 0
        self._num_known = 0
        self._runs: list[Run] = []  # by rising frame, those that still have a say and the one at the end

    def push(self, magnitude: FloatArray) -> FloatArray:
        """Take the next frames; see Masks."""
        self._take(self._masks.push(magnitude))
        return self._merged(max(0, self._num_known - LOOK_AHEAD_FRAMES - self._num_given), end=None)

    def finish(self) -> FloatArray:
        """Return the masks still owed; see Masks."""
        self._take(self._masks.finish())
        return self._merged(self._num_known - self._num_given, end=self._num_known)

    def _take(self, mask: FloatArray) -> None:
        """Take note of the next masks (channel, frame, bin) and of the runs in them."""
        if self._waiting is None:
            self._waiting = ArrayQueue(mask[:, :0])
        self._waiting.append(mask)
        for frame in self._num_known + np.flatnonzero(mask.min(axis=(0, 2), initial=1.0) > THRESHOLD):
            if self._runs and self._runs[-1].last == frame - 1:
                self._runs[-1].last = int(frame)
            else:
                self._runs.append(Run(first=int(frame), last=int(frame)))
        self._num_known += mask.shape[1]

    def _merged(self, count: int, *, end: int | None) -> FloatArray:
        """Return the next `count` masks; `end` is the number of frames of the song if that is known."""
        assert self._waiting is not None
        weight = merge_weights(self._runs, self._num_given, count, end=end)
        mask = self._waiting.take(count)
        self._num_given += count
        self._forget()
        merged: FloatArray = mask + weight[:, None] * (1.0 - mask)
        return merged

    def _forget(self) -> None:
        """Drop runs that no frame to come depends on: short ones, and but for the last long ones, which others join."""
        over = [run for run in self._runs[:-1] if run.last < self._num_given - LOOK_AHEAD_FRAMES]
        last_long = [run for run in over if run.is_long][-1:]
        self._runs = last_long + self._runs[len(over) :]


def merge_weights(runs: list[Run], start: int, count: int, *, end: int | None) -> FloatArray:
    """Return how far the masks of frames `start` to `start` + `count` are moved to 1: (count,), in [0, 1].

    `runs` are those of the song, as far as they are known; `end` is its number of frames if that is. There is no fade
    where a run touches the first or the last frame.
    """
    weight = np.zeros(count, np.float32)
    rise = np.linspace(0.0, 1.0, FADE_FRAMES, dtype=np.float32)
    last: int | None = None
    for run in runs:
        if not run.is_long:
            continue
        joins = last is not None and run.first - last < FADE_FRAMES
        first = last - 2 * FADE_FRAMES if joins and last is not None else run.first
        # What has not ended yet goes on, as far as frames are concerned that are asked for.
        last = run.last
        flat_start, flat_end = first + FADE_FRAMES, last - FADE_FRAMES
        if first == 0:
            flat_start = 0
        else:
            _put(weight, first - start, rise)
        if end is not None and last == end - 1:
            flat_end = last
        else:
            _put(weight, last - FADE_FRAMES - start, rise[::-1])
        _put(weight, flat_start - start, np.ones(max(0, flat_end - flat_start), np.float32))
    return weight


def _put(weight: FloatArray, position: int, values: FloatArray) -> None:
    """Write values from a position on, as far as they are within."""
    first, last = max(position, 0), min(position + len(values), len(weight))
    if first < last:
        weight[first:last] = values[first - position : last - position]
