"""How fast a run goes, and where its time goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, get_args

from vrtool.training.config import TrainingConfig
from vrtool.training.stopwatch import Phase
from vrtool.training.update import Update

METER_STEPS = 50
OCCASIONAL: tuple[Phase, ...] = ("validation", "saving")
"""Phases that most steps have not: their time is spread over all steps of the session."""


class Meter:
    """Means over the last steps, and over the session of what is rare."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._times: deque[dict[Phase, float]] = deque(maxlen=METER_STEPS)
        self._updates: deque[Update] = deque(maxlen=METER_STEPS)
        self._occasional = dict.fromkeys(OCCASIONAL, 0.0)
        self._num_steps = 0

    def step(self, update: Update, times: Mapping[Phase, float]) -> None:
        """Take note of a step, and of the seconds that went by since the one before it."""
        self._num_steps += 1
        for phase in OCCASIONAL:
            self._occasional[phase] += times.get(phase, 0.0)
        self._times.append({phase: seconds for phase, seconds in times.items() if phase not in OCCASIONAL})
        if update.is_done:
            self._updates.append(update)

    @property
    def is_settled(self) -> bool:
        """Whether the means are over as many steps as they can be, and not over the first, which waits for a start."""
        return self._num_steps > METER_STEPS

    @property
    def time_shares(self) -> dict[Phase, float]:
        """Each phase's share of the time, in the order of a step; they sum to 1."""
        seconds = self._seconds_per_step()
        total = sum(seconds.values())
        return {phase: seconds[phase] / total for phase in get_args(Phase) if phase in seconds}

    def _seconds_per_step(self) -> dict[Phase, float]:
        phases = self._times[-1]
        means = {phase: sum(times.get(phase, 0.0) for times in self._times) / len(self._times) for phase in phases}
        return means | {phase: seconds / self._num_steps for phase, seconds in self._occasional.items()}

    def rates(self, step: int) -> dict[str, Any] | None:
        """Return the report's measured fields after step number `step`, None as long as every step was skipped."""
        if not self._updates:
            return None
        last, count = self._updates[-1], len(self._updates)
        in_steps = sum(sum(times.values()) for times in self._times) / len(self._times)
        return {
            "loss": sum(update.loss for update in self._updates) / count,
            "loss_terms": {
                name: sum(update.loss_terms[name] for update in self._updates) / count for name in last.loss_terms
            },
            "learning_rate": last.learning_rate,
            "gradient_norm": last.gradient_norm,
            "examples_per_second": self._config.examples_per_step / in_steps,
            "time_shares": self.time_shares,
            "seconds_left": sum(self._seconds_per_step().values()) * (self._config.num_steps - step),
        }
