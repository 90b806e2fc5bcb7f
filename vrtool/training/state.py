"""What a run counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from vrtool.errors import CheckpointError
from vrtool.model.checkpoint import Checkpoint


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """Counters of a run; skipped and bad are steps whose gradients were not finite."""

    step: int = 0
    best_loss: float = math.inf
    """Of validation: that of the best checkpoint."""
    validations_without_gain: int = 0
    """In a row."""
    skipped_steps: int = 0
    bad_steps_in_a_row: int = 0

    @property
    def num_updates(self) -> int:
        """Steps that have changed the weights."""
        return self.step - self.skipped_steps

    def take_loss(self, loss: float) -> bool:
        """Take note of a validation's loss and return whether it is the lowest so far."""
        is_best = loss < self.best_loss
        self.best_loss = loss if is_best else self.best_loss
        self.validations_without_gain = 0 if is_best else self.validations_without_gain + 1
        return is_best

    def to_json(self) -> dict[str, Any]:
        """Return the counters that a checkpoint's progress carries."""
        return {
            "step": self.step,
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "validations_without_gain": self.validations_without_gain,
            "skipped_steps": self.skipped_steps,
            "bad_steps_in_a_row": self.bad_steps_in_a_row,
        }

    @classmethod
    def restore(cls, checkpoint: Checkpoint) -> Self:
        """Return a checkpoint's counters; CheckpointError if it was not written to be resumed."""
        if not checkpoint.training_state:
            raise CheckpointError("the run's last checkpoint holds weights alone, so there is nothing to resume from")
        best = checkpoint.progress.get("best_loss")
        return cls(
            step=_count(checkpoint, "step"),
            best_loss=float(best) if isinstance(best, (int, float)) else math.inf,
            skipped_steps=_count(checkpoint, "skipped_steps"),
            # Checkpoints of format version 1 do not tell these.
            validations_without_gain=_count(checkpoint, "validations_without_gain", 0),
            bad_steps_in_a_row=_count(checkpoint, "bad_steps_in_a_row", 0),
        )


def _count(checkpoint: Checkpoint, name: str, default: int | None = None) -> int:
    value = checkpoint.progress.get(name, default)
    if not isinstance(value, int):
        raise CheckpointError(f"the run's last checkpoint does not tell its {name}, expected a number, found {value!r}")
    return value
