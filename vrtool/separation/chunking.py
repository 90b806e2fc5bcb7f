"""Long songs in pieces: which frames the network sees at a time, and how its overlapping masks become one.

A network sees least context at the edges of what it is given. Chunks therefore overlap, and where they do their masks
are averaged with weights that fall smoothly from mid-chunk to the edges, so that no border can be heard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vrtool.audio.waveform import FloatArray
from vrtool.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A run of frames that the network sees at once."""

    start_frame: int
    num_frames: int

    @property
    def end_frame(self) -> int:
        """The first frame after the chunk."""
        return self.start_frame + self.num_frames


class Chunker:
    """Says which chunks are complete while a song's frames come; how many there will be need not be known.

    All have `chunk_frames` frames, `chunk_frames` * (1 - overlap) apart; the last one is moved back to end with the
    song rather than cut, for the network has learned from full ones. A song shorter than that is one chunk as it is.
    Raises InputError for a chunk below 1 frame or an overlap outside of [0, 1).
    """

    def __init__(self, chunk_frames: int, overlap: float) -> None:
        if chunk_frames < 1:
            raise InputError(f"chunks need 1 frame or more, found {chunk_frames}; 256 is usual")
        if not 0 <= overlap < 1:
            raise InputError(f"chunks must overlap by a share from 0 to below 1, found {overlap}; 0.125 is usual")
        self._chunk_frames = chunk_frames
        self.hop_frames = max(1, round(chunk_frames * (1 - overlap)))
        self._num_frames = 0
        self._last: Chunk | None = None

    @property
    def first_needed_frame(self) -> int:
        """The first frame that a chunk to come may begin with: the one moved back begins after the last one there is.

        Earlier frames need not be kept.
        """
        return 0 if self._last is None else self._last.start_frame + 1

    def push(self, num_frames: int) -> list[Chunk]:
        """Take note of the next frames, any number, and return the chunks now complete, in their order."""
        self._num_frames += num_frames
        chunks = []
        while self._next_start + self._chunk_frames <= self._num_frames:
            self._last = Chunk(start_frame=self._next_start, num_frames=self._chunk_frames)
            chunks.append(self._last)
        return chunks

    def finish(self) -> list[Chunk]:
        """Return the chunk that the song's last frames need, if they are in none yet."""
        if self._num_frames == (0 if self._last is None else self._last.end_frame):
            return []
        count = min(self._num_frames, self._chunk_frames)
        return [Chunk(start_frame=self._num_frames - count, num_frames=count)]

    @property
    def _next_start(self) -> int:
        return 0 if self._last is None else self._last.start_frame + self.hop_frames


def chunk_weight(num_frames: int) -> FloatArray:
    """Return each frame's weight when overlapping chunks are blended.

    Shape (num_frames,), in (0, 1], highest mid-chunk where the model sees most context.
    """
    # A Hann window sampled between its zeros: no frame weighs nothing, so a song's first and last frames, which only
    # one chunk sees, keep that chunk's mask after the division by the sum of the weights.
    phase = math.pi * (np.arange(num_frames) + 0.5) / num_frames
    return np.square(np.sin(phase)).astype(np.float32)


class ChunkBlender:
    """The weighted average of overlapping chunks' masks, every frame as soon as no later chunk reaches back to it.

    Never more than a chunk's frames are pending, however long the song. Takes chunks as a Chunker gives them.
    """

    def __init__(self) -> None:
        self._pending: FloatArray | None = None  # sum of weight * mask of the frames not given yet
        self._weights = np.zeros(0, np.float32)  # sum of the weights of the same frames
        self._pending_start = 0

    def push(self, chunk: Chunk, mask: FloatArray) -> FloatArray:
        """Take the next chunk's mask (channel, frame, bin); return that of the frames before the chunk not yet given.

        Of the same axes; there may be none to return.
        """
        assert mask.shape[1] == chunk.num_frames
        num_done = chunk.start_frame - self._pending_start
        done = mask[:, :0] if self._pending is None else self._average(num_done)
        weight = chunk_weight(chunk.num_frames)
        summed, weights = mask * weight[:, None], weight
        if self._pending is not None:
            rest = self._pending[:, num_done:]
            summed[:, : rest.shape[1]] += rest
            weights[: rest.shape[1]] += self._weights[num_done:]
        self._pending, self._weights, self._pending_start = summed, weights, chunk.start_frame
        return done

    def finish(self) -> FloatArray:
        """Return the mask of the frames still pending, after one chunk or more."""
        return self._average(self._weights.size)

    def _average(self, num_frames: int) -> FloatArray:
        assert self._pending is not None
        average: FloatArray = self._pending[:, :num_frames] / self._weights[:num_frames, None]
        return average
