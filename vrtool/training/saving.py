"""Writes what a run leaves behind and outlives a full disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from vrtool.errors import JobError
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
        """Write the checkpoint to go on from after a step; return whether there was room.

        Raises JobError if there is nothing to go on from, as the checkpoint holds numbers that are not finite.
        """
        return self._save(partial(self._folder.save, step=step, num_kept=self._num_kept), make, step)

    def save_best(self, make: Callable[[], Checkpoint], *, step: int) -> bool:
        """Write the checkpoint of the best network so far, which that step made; return whether there was room.

        Raises JobError as `save` does.
        """
        return self._save(self._folder.save_best, make, step)

    def _save(self, write: Callable[[Checkpoint], None], make: Callable[[], Checkpoint], step: int) -> bool:
        def save() -> bool:
            checkpoint = make()
            self._require_finite(checkpoint, step)
            return self._write(
                partial(write, checkpoint),
                f"step {step} is not saved there, the checkpoints before it are as they were",
            )

        return self._world.share(save)

    def save_bad_step(self, text: str, *, step: int) -> bool:
        """Write what a step that was skipped was made of; return whether there was room. The main process's alone."""
        return self._write(
            partial(self._folder.write_bad_step, step, text),
            f"what step {step} was made of, which was skipped, is not saved there",
        )

    def _write(self, write: Callable[[], None], loss: str) -> bool:
        try:
            write()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self._tell(f"{error.filename}: {error.strerror}; {loss} and training goes on; free some space")
            return False
        return True

    def _require_finite(self, checkpoint: Checkpoint, step: int) -> None:
        """Raise JobError rather than let a checkpoint that is of no use take the place of one that is."""
        tensors = (*checkpoint.weights.values(), *checkpoint.training_state.values())
        if all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point()):
            return
        newest = self._folder.newest_checkpoint
        remedy = (
            f"{newest} is from before; lower training.learning_rate and go on from there with --resume"
            if newest is not None
            else "there is no checkpoint from before; start again with a lower training.learning_rate"
        )
        raise JobError(
            f"step {step}: the network holds numbers that are not finite, and nothing can be learned; {remedy}"
        )
