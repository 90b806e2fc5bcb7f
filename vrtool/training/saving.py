"""Writes what a run leaves behind and outlives a full disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from vrtool.model.checkpoint import Checkpoint
from vrtool.training.distributed import World
from vrtool.training.run_folder import NO_ROOM, RunFolder


class Saver:
    """Writes to a run's folder; where there is no room, `tell` hears of it and what was written before stays.

    The main process writes, for all of them: all are to call what returns whether there was room.
    """

    def __init__(self, folder: RunFolder, world: World, *, num_kept: int, tell: Callable[[str], None]) -> None:
        self._folder, self._world, self._num_kept, self._tell = folder, world, num_kept, tell
        self._is_log_full = False

    def log(self, values: dict[str, Any]) -> None:
        """Add to the metrics; that there is no room is told once until there is some again."""
        if not self._world.is_main:
            return
        try:
            self._folder.append_metrics(values)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            if not self._is_log_full:
                self._tell(
                    f"{self._folder.metrics}: {error.strerror}; training goes on, but what it would log from step "
                    f"{values['step']} on is lost until some space is free"
                )
            self._is_log_full = True
        else:
            self._is_log_full = False

    def save(self, make: Callable[[], Checkpoint], *, step: int) -> bool:
        """Write the checkpoint to go on from after a step; return whether there was room."""
        write = partial(self._folder.save, step=step, num_kept=self._num_kept)
        return self._world.share(lambda: self._write(write, make(), step))

    def save_best(self, make: Callable[[], Checkpoint], *, step: int) -> bool:
        """Write the checkpoint of the best network so far, which that step made; return whether there was room."""
        return self._world.share(lambda: self._write(self._folder.save_best, make(), step))

    def _write(self, write: Callable[[Checkpoint], None], checkpoint: Checkpoint, step: int) -> bool:
        try:
            write(checkpoint)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self._tell(
                f"{error.filename}: {error.strerror}; step {step} is not saved there, the checkpoints before it are as "
                "they were and training goes on; free some space"
            )
            return False
        return True
