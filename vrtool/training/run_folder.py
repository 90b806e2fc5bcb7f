"""The folder of a training run: its recipe, its checkpoints and its metrics."""

from __future__ import annotations

import errno
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vrtool.atomic import DISK_FULL, atomic_path, remove_abandoned
from vrtool.errors import DamagedCheckpointError, InputError
from vrtool.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

STEP_NAME = re.compile(r"step-(\d{8,})\.safetensors")
NO_ROOM = DISK_FULL | {errno.EFBIG}
"""Errors of a full disk, and of one, such as a FAT stick, that takes no file of this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """Paths of one run and the rules of writing them."""

    path: Path

    def checkpoint(self, step: int) -> Path:
        """Return the name of the checkpoint after a step, with all that is needed to go on from it."""
        return self.path / f"step-{step:08}.safetensors"

    @property
    def last(self) -> Path:
        """The newest of these once more: a second name of the same file."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint with the lowest validation loss: weights only."""
        return self.path / "best.safetensors"

    @property
    def recipe(self) -> Path:
        """The recipe with all changes from the command line."""
        return self.path / "recipe.toml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: sessions, training means and validation results, each with its step."""
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        """The run as a page to look at and to listen to."""
        return self.path / "report.html"

    @property
    def tensorboard(self) -> Path:
        """The folder of event files that TensorBoard shows."""
        return self.path / "tensorboard"

    @property
    def has_checkpoints(self) -> bool:
        """Whether there is a run to go on with."""
        return bool(self._candidates())

    @property
    def bad_steps(self) -> Path:
        """The folder of what steps that were skipped were made of, as `vrtool train --replay` takes it."""
        return self.path / "bad-steps"

    def bad_step(self, step: int) -> Path:
        """Return the name of the file about a step that was skipped."""
        return self.bad_steps / f"step-{step:08}.json"

    def start(self, recipe_text: str) -> None:
        """Make the folder for a new run; raises InputError if it has another run's checkpoint, or other files."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: expected a folder for the run, found a file")
        if self.has_checkpoints:
            raise InputError(
                f"{self.path} holds a run already; add --resume to go on with it, or choose another --output"
            )
        self._refuse_other_files()
        self.path.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.path)
        # At once, and without those of a run that ended before its first checkpoint: by this file one is told from a
        # folder that a person put a recipe into.
        self.metrics.write_bytes(b"")
        self.report.unlink(missing_ok=True)
        for folder in (self.tensorboard, self.bad_steps):
            if folder.is_dir():
                shutil.rmtree(folder)
        self.write_recipe(recipe_text)

    def _refuse_other_files(self) -> None:
        """Raise InputError if the folder has anything but what a run that ended early leaves behind."""
        found = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        ours = {path.name for path in (self.metrics, self.recipe, self.report, self.tensorboard, self.bad_steps)}
        foreign = {name for name in found if not name.startswith(".")} - ours
        if foreign or (found & ours and self.metrics.name not in found):
            raise InputError(f"{self.path}: expected an empty folder for the run, found {min(foreign | found)}")

    def write_recipe(self, text: str) -> None:
        """Put down the recipe that the run is made from now."""
        with atomic_path(self.recipe) as partial:
            partial.write_text(text, encoding="utf-8")

    def write_bad_step(self, step: int, text: str) -> None:
        """Put down what a step that was skipped was made of. OSErrors pass through."""
        self.bad_steps.mkdir(exist_ok=True)
        with atomic_path(self.bad_step(step)) as partial:
            partial.write_text(text, encoding="utf-8")

    @property
    def newest_checkpoint(self) -> Path | None:
        """What --resume would go on from, if it is not damaged; None if there is none."""
        return next(iter(self._candidates()), None)

    def checkpoints_until(self, step: int) -> list[Path]:
        """Return the checkpoints after this step and before, the newest first."""
        return [path for number, path in self._step_checkpoints() if number <= step]

    def resume(self, *, tell: Callable[[str], None]) -> tuple[Path, Checkpoint]:
        """Return the newest checkpoint that is not damaged, and where it is; damaged ones are told.

        Raises InputError if there is none, DamagedCheckpointError if all are damaged.
        """
        candidates = self._candidates()
        if not candidates:
            raise InputError(f"{self.path}: nothing to resume, it has no {self.last.name}; start it without --resume")
        remove_abandoned(self.path)
        damage: list[DamagedCheckpointError] = []
        for path in candidates:
            try:
                checkpoint = load_checkpoint(path, with_training_state=True)
            except DamagedCheckpointError as error:
                damage.append(error)
                continue
            for found in damage:
                tell(f"{found}. Going on from {path.name}, the one before it")
            return path, checkpoint
        raise damage[0]

    def _candidates(self) -> list[Path]:
        """Return the checkpoints that a run could go on from, the newest first."""
        steps = [path for _, path in self._step_checkpoints()]
        if not self.last.is_file():
            return steps
        if any(self.last.samefile(path) for path in steps):
            return steps
        # From a vrtool that wrote no other, alone in a copied folder, or a true copy of the newest.
        return [*steps[:1], self.last, *steps[1:]]

    def _step_checkpoints(self) -> list[tuple[int, Path]]:
        """Return steps and their checkpoints, the newest first."""
        if not self.path.is_dir():
            return []
        names = [(STEP_NAME.fullmatch(path.name), path) for path in self.path.iterdir()]
        return sorted(((int(name[1]), path) for name, path in names if name), reverse=True)

    def drop_metrics_after(self, step: int) -> None:
        """Forget the metrics of steps that are done again."""
        if self.metrics.is_file():
            lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= step]
            with atomic_path(self.metrics) as partial:
                partial.write_text("".join(kept), encoding="utf-8")

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add one line to the metrics, at once on disk for whoever watches; whole, or not at all."""
        # JSON knows no NaN: what diverged is null.
        finite = {key: None if _is_not_finite(value) else value for key, value in values.items()}
        line = (json.dumps(finite, allow_nan=False) + "\n").encode()
        with self.metrics.open("ab", buffering=0) as file:
            end = file.seek(0, 2)
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, "no room for a whole line", str(self.metrics))
            except OSError:
                file.truncate(end)
                raise

    def save(self, checkpoint: Checkpoint, *, step: int, num_kept: int) -> None:
        """Write the newest checkpoint, then remove the older ones but for `num_kept` in all. OSErrors pass through."""
        path = self.checkpoint(step)
        save_checkpoint(path, checkpoint)
        self._name_last(path)
        others = self._step_checkpoints()
        # A checkpoint of a later step was found damaged when the run was resumed from one before it.
        obsolete = [old for number, old in others if number > step]
        obsolete += [old for number, old in others if number <= step][num_kept:]
        for old in obsolete:
            old.unlink(missing_ok=True)

    def _name_last(self, path: Path) -> None:
        """Give a checkpoint the name of the newest as well, which takes no room where the file system has links."""
        with atomic_path(self.last) as partial:
            partial.unlink()
            try:
                partial.hardlink_to(path)
            except OSError:
                shutil.copyfile(path, partial)

    def save_best(self, checkpoint: Checkpoint) -> None:
        """Write the best checkpoint so far, its weights alone. OSErrors pass through."""
        save_checkpoint(self.best, replace(checkpoint, training_state={}))


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _step_of(line: str) -> float:
    """Return a metrics line's step; a line cut off by a crash counts as never written."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
