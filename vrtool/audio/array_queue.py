"""Samples or frames that wait in order until somebody takes them."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)


class ArrayQueue(Generic[T]):
    """Arrays (channel, time, ...) joined along time: appended at the end, taken at the front, in portions of any size.

    `empty` is an array of no time that says the channels, the other axes and the type. What is appended is kept as it
    is, not copied: nobody may write to it.
    """

    def __init__(self, empty: npt.NDArray[T]) -> None:
        assert empty.shape[1] == 0
        self._empty = empty
        self._arrays: deque[npt.NDArray[T]] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, array: npt.NDArray[T]) -> None:
        """Add an array (channel, time, ...) at the end."""
        if array.shape[1]:
            self._arrays.append(array)
            self._size += array.shape[1]

    def take(self, count: int) -> npt.NDArray[T]:
        """Return the first `count` items and let go of them."""
        taken = self.first(count)
        self.drop(count)
        return taken

    def first(self, count: int) -> npt.NDArray[T]:
        """Return the first `count` items, which stay."""
        assert count <= self._size
        parts = [self._empty]
        missing = count
        for array in self._arrays:
            if missing == 0:
                break
            parts.append(array[:, :missing])
            missing -= parts[-1].shape[1]
        return parts[1] if len(parts) == 2 else np.concatenate(parts, axis=1)

    def drop(self, count: int) -> None:
        """Let go of the first `count` items."""
        assert count <= self._size
        self._size -= count
        while count:
            array = self._arrays.popleft()
            if array.shape[1] > count:
                self._arrays.appendleft(array[:, count:])
                break
            count -= array.shape[1]
