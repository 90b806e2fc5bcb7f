"""What a run's metrics tell, line by line, as curves and tables need it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]
Points = Sequence[tuple[float, float]]
"""(step, value) by rising step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The lines of a run's metrics by kind, in the order in which they were written."""

    sessions: tuple[Line, ...] = ()
    training: tuple[Line, ...] = ()
    validation: tuple[Line, ...] = ()
    bad_steps: tuple[Line, ...] = ()
    """Steps that were skipped, as their gradients were not finite."""

    @property
    def best_validation(self) -> Line | None:
        """The validation with the lowest loss, None if there was none."""
        judged = [line for line in self.validation if _is_number(line.get("loss"))]
        return min(judged, key=lambda line: float(line["loss"]), default=None)

    @property
    def last_step(self) -> int:
        """The last step that any line is of; where only skipped ones came after it, a run goes on from before them."""
        return max((line["step"] for line in (*self.sessions, *self.training, *self.validation)), default=0)


def read_history(path: Path) -> History:
    """Return what the metrics in the file `path` tell; nothing if there is no such file.

    Lines that a crash cut off are left out, as are those of kinds that only a newer vrtool knows.
    """
    if not path.is_file():
        return History()
    lines = [line for line in map(_parsed, path.read_text(encoding="utf-8").splitlines()) if line is not None]

    def of_kind(kind: str) -> tuple[Line, ...]:
        return tuple(line for line in lines if line.get("kind") == kind)

    return History(
        sessions=of_kind("session"),
        training=of_kind("training"),
        validation=of_kind("validation"),
        bad_steps=of_kind("bad_step"),
    )


def points(lines: Sequence[Line], name: str, *, factor: float = 1.0) -> list[tuple[float, float]]:
    """Return (step, value times factor) of each line that has a number under `name`: what diverged is null there."""
    return [(float(line["step"]), factor * float(line[name])) for line in lines if _is_number(line.get(name))]


def _parsed(text: str) -> Line | None:
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
