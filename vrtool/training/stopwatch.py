"""Where the time of a run goes."""

from __future__ import annotations

import time
from typing import Literal

import torch

Phase = Literal["data", "copy", "forward", "backward", "optimiser", "validation", "saving"]
"""Waiting for batches, copying them to the device, ..., and writing checkpoints, metrics and the display."""


class Stopwatch:
    """Tells how long a run was in each phase.

    A GPU works through what it was given while Python is ahead of it, so there the time is taken where it counts: at
    the moments at which the GPU itself gets to the next phase. Waiting for data is then waiting of the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._entered: list[tuple[Phase, float | torch.cuda.Event]] = []

    def enter(self, phase: Phase) -> None:
        """Count what follows for `phase`."""
        self._entered.append((phase, self._now()))

    def read(self) -> dict[Phase, float]:
        """Return the seconds in each phase since the last call; waits until a GPU is done with all it was given."""
        if not self._entered:
            return {}
        now = self._now()
        if isinstance(now, torch.cuda.Event):
            now.synchronize()
        times: dict[Phase, float] = {}
        starts = [start for _, start in self._entered]
        for (phase, start), end in zip(self._entered, [*starts[1:], now], strict=True):
            times[phase] = times.get(phase, 0.0) + _seconds(start, end)
        self._entered = [(self._entered[-1][0], now)]
        return times

    def _now(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event


def _seconds(start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(start, float) and isinstance(end, float):
        return end - start
    assert isinstance(start, torch.cuda.Event), "one stopwatch has one kind of clock"
    assert isinstance(end, torch.cuda.Event), "one stopwatch has one kind of clock"
    return float(start.elapsed_time(end)) / 1000.0
