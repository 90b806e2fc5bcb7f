"""How fast a run goes, and how much of its time it waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

import torch

from vrtool.training.config import TrainingConfig

METER_STEPS = 50


class Meter:
    """Measures speed over the last steps: examples, time in all, time spent waiting for data; validation left out."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._steps: deque[tuple[float, float, float]] = deque(maxlen=METER_STEPS)  # seconds, of which waiting, loss
        self._paused_seconds = 0.0
        self._waited_seconds = 0.0
        self._step_started = time.perf_counter()
        self._loss_terms: deque[dict[str, float]] = deque(maxlen=METER_STEPS)
        self._learning_rate = self._gradient_norm = 0.0

    def wait(self, seconds: float) -> None:
        """Count time in which the loop had nothing to do."""
        self._waited_seconds += seconds

    def pause(self, seconds: float) -> None:
        """Leave out time that is not training."""
        self._paused_seconds += seconds

    def step(self, loss: float, learning_rate: float, gradient_norm: float, loss_terms: dict[str, float]) -> None:
        """End a step."""
        now = time.perf_counter()
        seconds = now - self._step_started - self._paused_seconds
        self._steps.append((seconds, self._waited_seconds, loss))
        self._loss_terms.append(loss_terms)
        self._step_started, self._paused_seconds, self._waited_seconds = now, 0.0, 0.0
        self._learning_rate, self._gradient_norm = learning_rate, gradient_norm

    def rates(self, step: int) -> dict[str, Any] | None:
        """Return the report's measured fields after step number `step`, None as long as every step was skipped."""
        if not self._steps:
            return None
        seconds = sum(entry[0] for entry in self._steps)
        per_step = seconds / len(self._steps)
        return {
            "loss": sum(entry[2] for entry in self._steps) / len(self._steps),
            "loss_terms": {
                name: sum(terms[name] for terms in self._loss_terms) / len(self._loss_terms)
                for name in self._loss_terms[-1]
            },
            "learning_rate": self._learning_rate,
            "gradient_norm": self._gradient_norm,
            "examples_per_second": self._config.examples_per_step / per_step,
            "data_wait_share": sum(entry[1] for entry in self._steps) / seconds,
            "seconds_left": per_step * (self._config.num_steps - step),
        }


def timed(batches: Iterator[torch.Tensor], meter: Meter) -> Generator[torch.Tensor, None, None]:
    """Pass batches on, telling the meter how long each was waited for."""
    while True:
        started = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        meter.wait(time.perf_counter() - started)
        yield batch
