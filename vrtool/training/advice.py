"""What to change where a network waits for its batches, in words."""

from __future__ import annotations

import math
import os
from collections import deque

from vrtool.training.loading import Making

SLOW_LOADER_SHARE = 0.1
"""Of the time, waiting for data: from here on a person should know."""
IDLE_SHARE = 0.5
"""Of the time of making a batch, not computing: from here on it is the disk that is slow."""
REMEMBERED_BATCHES = 100


class LoaderAdviser:
    """Watches what batches take to make, and says once, if the network waits for them, what would help."""

    def __init__(self, num_workers: int, *, num_processes: int = 1, num_cores: int | None = None) -> None:
        self._num_workers = num_workers
        self._num_processes = num_processes
        self._num_cores = num_cores or _usable_cores()
        self._makings: deque[Making] = deque(maxlen=REMEMBERED_BATCHES)
        self._has_spoken = False

    def made(self, making: Making) -> None:
        """Take note of a batch."""
        self._makings.append(making)

    def advice(self, waiting_share: float) -> str | None:
        """Return what to change if this share of the time is waiting; None if that is little, or was said before."""
        if waiting_share < SLOW_LOADER_SHARE or self._has_spoken or not self._makings:
            return None
        self._has_spoken = True
        return f"the network waits for data {waiting_share:.0%} of the time: {self._remedy(waiting_share)}"

    def _remedy(self, waiting_share: float) -> str:
        spare_workers = self._num_cores // self._num_processes - 1
        if self._num_workers == 0:
            return (
                "examples are made between the steps; set training.num_loader_workers = "
                f"{max(1, min(2, spare_workers))}, so that they are made meanwhile"
            )
        if self._idle_share > IDLE_SHARE and spare_workers >= self._num_workers:
            return (
                f"its loader is idle {self._idle_share:.0%} of its time, so the disk is slow; put the cache on a "
                "faster one, or give the machine as much memory as the cache has bytes"
            )
        enough = math.ceil(self._num_workers / (1.0 - min(waiting_share, 0.9)))
        if spare_workers > self._num_workers:
            return f"set training.num_loader_workers = {min(enough, spare_workers)}, it is {self._num_workers} now"
        return (
            f"all {self._num_cores} cores are busy making examples; more cores would help, or examples made of fewer "
            "tracks: lower augmentation.mixup_probability and augmentation.second_vocals_probability"
        )

    @property
    def _idle_share(self) -> float:
        seconds = sum(making.seconds for making in self._makings)
        return 1.0 - sum(making.computing_seconds for making in self._makings) / seconds if seconds else 0.0


def _usable_cores() -> int:
    """Return how many cores this process may use, which on a shared machine are not all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
