"""The folder of a training run: its recipe, its checkpoints and its metrics."""

from __future__ import annotations

import json
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
    def metrics(self) -> Path:
        """One JSON object a line: training means and validation results, each with its step."""
        return self.path / "metrics.jsonl"

    def start(self, recipe_text: str) -> None:
        """Make the folder for a new run; raises InputError if one has been here."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: expected a folder for the run, found a file")
        if self.last.exists() or self.metrics.exists():
            raise InputError(
                f"{self.path} holds a run already; add --resume to go on with it, or choose another --output"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path / "recipe.toml") as partial:
            partial.write_text(recipe_text, encoding="utf-8")

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
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def save(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        """Write the newest checkpoint and, if it is the best so far, its weights once more."""
        save_checkpoint(self.last, checkpoint)
        if is_best:
            save_checkpoint(self.best, replace(checkpoint, training_state={}))


def _step_of(line: str) -> float:
    """Return a metrics line's step; a line cut off by a crash counts as never written."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
