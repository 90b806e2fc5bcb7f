"""The folder of a training run: its recipe, its checkpoints and its metrics."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vrtool.atomic import atomic_path
from vrtool.errors import InputError
from vrtool.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """Paths of one run and the rules of writing them."""

    path: Path

    @property
    def last(self) -> Path:
        """The newest checkpoint, with all that is needed to go on from it."""
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
        """One JSON object a line: training means and validation results, each with its step."""
        return self.path / "metrics.jsonl"

    def start(self, recipe_text: str) -> None:
        """Make the folder for a new run; raises InputError if it has another run's checkpoint, or other files."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: expected a folder for the run, found a file")
        if self.last.exists() or self.best.exists():
            raise InputError(
                f"{self.path} holds a run already; add --resume to go on with it, or choose another --output"
            )
        self._refuse_other_files()
        self.path.mkdir(parents=True, exist_ok=True)
        self.metrics.unlink(missing_ok=True)  # of a run that ended before its first checkpoint
        self.write_recipe(recipe_text)

    def _refuse_other_files(self) -> None:
        """Raise InputError if the folder has anything but what a run that ended early leaves behind."""
        found = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        foreign = {name for name in found if not name.startswith(".")} - {self.metrics.name, self.recipe.name}
        if foreign or (self.recipe.name in found and self.metrics.name not in found):
            raise InputError(f"{self.path}: expected an empty folder for the run, found {min(foreign | found)}")

    def write_recipe(self, text: str) -> None:
        """Put down the recipe that the run is made from now."""
        with atomic_path(self.recipe) as partial:
            partial.write_text(text, encoding="utf-8")

    def resume(self) -> Checkpoint:
        """Return the newest checkpoint with its training state; raises InputError if there is none."""
        if not self.last.is_file():
            raise InputError(f"{self.path}: nothing to resume, it has no {self.last.name}; start it without --resume")
        return load_checkpoint(self.last, with_training_state=True)

    def drop_metrics_after(self, step: int) -> None:
        """Forget the metrics of steps that are done again."""
        if self.metrics.is_file():
            lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= step]
            with atomic_path(self.metrics) as partial:
                partial.write_text("".join(kept), encoding="utf-8")

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add one line to the metrics, at once on disk for whoever watches."""
        # JSON knows no NaN: what diverged is null.
        finite = {key: None if _is_not_finite(value) else value for key, value in values.items()}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite, allow_nan=False) + "\n")

    def save(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        """Write the newest checkpoint and, if it is the best so far, its weights once more."""
        save_checkpoint(self.last, checkpoint)
        if is_best:
            save_checkpoint(self.best, replace(checkpoint, training_state={}))


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _step_of(line: str) -> float:
    """Return a metrics line's step; a line cut off by a crash counts as never written."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
