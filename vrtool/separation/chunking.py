"""Long songs in pieces: which frames the network sees at a time, and how its overlapping masks become one.

A network sees least context at the edges of what it is given. Chunks therefore overlap, and where they do their masks
are averaged with weights that fall smoothly from mid-chunk to the edges, so that no border can be heard.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
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


def check_chunking(chunk_frames: int, overlap: float) -> None:
    """Raise InputError unless chunks have a frame or more and overlap by a share of at least 0 and below 1."""
    if chunk_frames < 1:
        raise InputError(f"chunks need 1 frame or more, found {chunk_frames}; 1024 is usual")
    if not 0 <= overlap < 1:
        raise InputError(f"chunks must overlap by a share from 0 to below 1, found {overlap}; 0.5 is usual")


def plan_chunks(num_frames: int, chunk_frames: int, overlap: float) -> list[Chunk]:
    """Return chunks that cover frames 0 to num_frames - 1, by rising start and never one inside another.

    All have `chunk_frames` frames, `chunk_frames` * (1 - overlap) apart; the last one is moved back to end with the
    song rather than cut, for the network has learned from full ones. A song shorter than that is one chunk as it is.
    Raises InputError for a chunk below 1 frame or an overlap outside of [0, 1).
    """
    check_chunking(chunk_frames, overlap)
    assert num_frames >= 1
    if num_frames <= chunk_frames:
        return [Chunk(start_frame=0, num_frames=num_frames)]
    hop_frames = max(1, round(chunk_frames * (1 - overlap)))
    last_start = num_frames - chunk_frames
    starts = [*range(0, last_start, hop_frames), last_start]
    return [Chunk(start_frame=start, num_frames=chunk_frames) for start in starts]


def chunk_weight(num_frames: int) -> FloatArray:
    """Return each frame's weight when overlapping chunks are blended.

    Shape (num_frames,), in (0, 1], highest mid-chunk where the model sees most context.
    """
    # A Hann window sampled between its zeros: no frame weighs nothing, so a song's first and last frames, which only
    # one chunk sees, keep that chunk's mask after the division by the sum of the weights.
    phase = math.pi * (np.arange(num_frames) + 0.5) / num_frames
    return np.square(np.sin(phase)).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPiece:
    """A run of a song's finished mask: float32 (channel, bin, frame) from frame `start_frame` on."""

    start_frame: int
    mask: FloatArray


def blend_chunks(chunk_masks: Iterable[tuple[Chunk, FloatArray]]) -> Iterator[MaskPiece]:
    """Yield the weighted average of overlapping chunks' masks, piece by piece, every frame exactly once.

    Takes the chunks of `plan_chunks` in their order, each with its mask (channel, bin, frame). A piece comes as soon
    as no later chunk reaches back to it, so that never more than a chunk's frames are pending, however long the song.
    """
    pending: FloatArray | None = None  # sum of weight * mask of the frames not yet yielded, (channel, bin, frame)
    weights = np.zeros(0, np.float32)  # sum of the weights of the same frames
    pending_start = 0
    for chunk, mask in chunk_masks:
        if pending is not None:
            num_done = chunk.start_frame - pending_start
            yield MaskPiece(start_frame=pending_start, mask=pending[:, :, :num_done] / weights[:num_done])
            pending, weights = pending[:, :, num_done:], weights[num_done:]
        pending_start = chunk.start_frame
        weight = chunk_weight(chunk.num_frames)
        summed, weight_sum = mask * weight, weight.copy()
        if pending is not None:
            summed[:, :, : pending.shape[2]] += pending
            weight_sum[: weights.size] += weights
        pending, weights = summed, weight_sum
    if pending is not None:
        yield MaskPiece(start_frame=pending_start, mask=pending / weights)
