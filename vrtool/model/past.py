"""What causal layers know of the frames before those at hand: nothing at the start of a song, later what they kept.

Layers are written once, for a run of frames and a `Past`. Over a whole crop from the start of a song this is the
parallel pass that training takes; one frame at a time with a past that keeps what each layer needs of the frames gone
by, it is the recurrent pass of separation, whose cost per frame does not grow. B batch, n frames at hand, F bin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vrtool.model.position import rotary_angles

# Frames whose angles are worked out together.
TABLE_FRAMES = 256

# Frames that a memory takes until it moves what it still needs to its front.
ROOM_FRAMES = 256


class Memory(NamedTuple):
    """Keys and values that queries may look at: (B, m, F) each, of frames `first_frame` and following."""

    keys: Tensor
    values: Tensor
    first_frame: int


class Rotations(NamedTuple):
    """The angles of frames `first_frame` and following, as `Past.rotation` gives them."""

    cosines: Tensor
    sines: Tensor
    first_frame: int


def rotations(first_frame: int, num_frames: int, width: int, *, like: Tensor) -> Rotations:
    """Return the angles of `num_frames` frames for bands of `width` bins, with the type and on the device of `like`.

    The halves of a band are its pairs.
    """
    # In double precision: hours into a song, single precision would round angles by a tenth of a radian.
    angles = rotary_angles(first_frame, num_frames, width // 2, dtype=torch.float64)[:, None, None]
    cosines, sines = angles.cos(), torch.cat((-angles.sin(), angles.sin()), dim=2)
    return Rotations(cosines.to(like.device, like.dtype), sines.to(like.device, like.dtype), first_frame)


class Past(ABC):
    """What came before the frames at hand, the first of which is number `first_frame` of the song."""

    def __init__(self) -> None:
        self.first_frame = 0
        self._rotations: dict[tuple[int, torch.dtype], Rotations] = {}

    def rotation(self, x: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Return the cosines and signed sines of the frames of `x` (B, n, F) for bands of `width` bins.

        Of shapes (n, 1, 1, width / 2) and (n, 1, 2, width / 2), to multiply the halves of a band, and the halves
        exchanged.
        """
        end_frame = self.first_frame + x.shape[1]
        table = self._rotations.get((width, x.dtype))
        if table is None or end_frame > table.first_frame + table.cosines.shape[0]:
            table = rotations(self.first_frame, max(x.shape[1], TABLE_FRAMES), width, like=x)
            self._rotations[width, x.dtype] = table
        frames = slice(self.first_frame - table.first_frame, end_frame - table.first_frame)
        return table.cosines[frames], table.sines[frames]

    @abstractmethod
    def precede(self, owner: nn.Module, x: Tensor, num_frames: int) -> Tensor:
        """Return `x` (B, n, F) with the `num_frames` frames before it in front, zeros where the song had not begun."""

    @abstractmethod
    def remember(self, owner: nn.Module, keys: Tensor, values: Tensor, num_frames: int) -> Memory:
        """Return keys and values (B, n, F) with those of up to `num_frames` frames before them in front."""


class SongStart(Past):
    """Nothing came before: the frames at hand are the first of a song, or of a crop that is taken for one."""

    def __init__(self, first_frame: int = 0) -> None:
        super().__init__()
        self.first_frame = first_frame

    def precede(self, owner: nn.Module, x: Tensor, num_frames: int) -> Tensor:
        """Return `x` (B, n, F) after `num_frames` frames of zeros."""
        del owner
        return nn.functional.pad(x, (0, 0, num_frames, 0))

    def remember(self, owner: nn.Module, keys: Tensor, values: Tensor, num_frames: int) -> Memory:
        """Return the keys and values alone."""
        del owner, num_frames
        return Memory(keys, values, 0)


class KeptPast(Past):
    """What the layers kept of the frames gone by; `advance` moves on to the frames that come next."""

    def __init__(self, first_frame: int = 0) -> None:
        super().__init__()
        self.first_frame = first_frame
        self._edges: dict[nn.Module, Tensor] = {}
        self._memories: dict[nn.Module, RollingMemory] = {}

    def advance(self, num_frames: int) -> None:
        """Take what was at hand for gone by."""
        self.first_frame += num_frames

    def precede(self, owner: nn.Module, x: Tensor, num_frames: int) -> Tensor:
        """Return `x` (B, n, F) with the `num_frames` frames before it in front, and keep its last ones."""
        edge = self._edges.get(owner)
        if edge is None:
            edge = x.new_zeros(x.shape[0], num_frames, x.shape[2])
        joined = torch.cat((edge, x), dim=1)
        self._edges[owner] = joined[:, joined.shape[1] - num_frames :]
        return joined

    def remember(self, owner: nn.Module, keys: Tensor, values: Tensor, num_frames: int) -> Memory:
        """Return keys and values (B, n, F) with those of up to `num_frames` frames before them, and keep them."""
        memory = self._memories.get(owner)
        if memory is None:
            memory = self._memories[owner] = RollingMemory(num_frames, self.first_frame)
        memory.append(keys, values)
        return memory.view(self.first_frame - num_frames, self.first_frame + keys.shape[1])


class RollingMemory:
    """The keys and values of the last frames of a song: at least `num_frames` before those appended last.

    The first to be appended are those of frame `first_frame`.
    """

    def __init__(self, num_frames: int, first_frame: int = 0) -> None:
        self._num_frames = num_frames
        self._buffer: Tensor | None = None  # (2, B, capacity, F): keys, values
        self._first_frame = first_frame  # the number of the buffer's first frame
        self._num_held = 0

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Take the keys and values (B, n, F) of the next frames."""
        num_new = keys.shape[1]
        if self._buffer is None or self._num_held + num_new > self._buffer.shape[2]:
            self._make_room(keys, num_new)
        assert self._buffer is not None
        held = slice(self._num_held, self._num_held + num_new)
        self._buffer[0, :, held], self._buffer[1, :, held] = keys, values
        self._num_held += num_new

    def _make_room(self, like: Tensor, num_new: int) -> None:
        """Move what is still needed to the front of the buffer, which is longer so that this happens seldom."""
        num_kept = min(self._num_held, self._num_frames)
        capacity = self._num_frames + ROOM_FRAMES + num_new
        old = self._buffer
        if old is None or old.shape[2] < capacity:
            self._buffer = like.new_empty(2, like.shape[0], capacity, like.shape[2])
        if old is not None and self._buffer is not None:
            kept = old[:, :, self._num_held - num_kept : self._num_held]
            self._buffer[:, :, :num_kept] = kept if self._buffer is not old else kept.clone()
        self._first_frame += self._num_held - num_kept
        self._num_held = num_kept

    def view(self, start_frame: int, end_frame: int) -> Memory:
        """Return what is held of the song's frames from `start_frame` up to but not including `end_frame`."""
        assert self._buffer is not None
        start = max(start_frame - self._first_frame, 0)
        end = min(end_frame - self._first_frame, self._num_held)
        keys, values = self._buffer[:, :, start:end]
        return Memory(keys, values, self._first_frame + start)
