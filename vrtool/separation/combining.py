"""Better masks for more time: means over several networks, over shifted chunks and over exchanged channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vrtool.audio.array_queue import ArrayQueue
from vrtool.audio.waveform import FloatArray
from vrtool.errors import InputError
from vrtool.separation.masks import Masks
from vrtool.separation.postprocessing import MergedMasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """What makes stems better, and all but `postprocess` slower; raises InputError for fewer shifts than 1."""

    shifts: int = 1
    """Masks are means over so many divisions of the song into chunks, each shifted by an equal part of their hop."""
    channel_swap_average: bool = False
    """Masks of stereo songs are means over the song and the song with left and right exchanged."""
    postprocess: bool = False
    """Long stretches without vocals are the instrumental's as they are (see postprocessing.py)."""

    def __post_init__(self) -> None:
        if self.shifts < 1:
            raise InputError(f"chunks are shifted 1 time or more, found {self.shifts}; 1 leaves them where they are")

    def refine(self, openers: Sequence[Callable[[], Masks]], *, hop_frames: int, num_channels: int) -> Masks:
        """Return the refined masks of a song of `num_channels`: the mean over networks, each opened by one of these."""
        members: list[Masks] = []
        for open_masks in openers:
            for number in range(self.shifts):
                shift = round(number * hop_frames / self.shifts)
                members.append(ShiftedMasks(open_masks(), shift) if shift else open_masks())
                if self.channel_swap_average and num_channels > 1:
                    swapped = SwappedMasks(open_masks())
                    members.append(ShiftedMasks(swapped, shift) if shift else swapped)
        masks = MeanMasks(members) if len(members) > 1 else members[0]
        return MergedMasks(masks) if self.postprocess else masks


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
