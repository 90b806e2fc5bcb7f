"""How the benchmarks measure: several ways of doing one thing take turns, as machines do not keep one speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def measure(ways: Mapping[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Return each way's median time in seconds over rounds in which every way has one turn, after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(num_rounds + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            if round_ > 0:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}


def verdict(claim: str, found: float, wanted: float) -> str:
    """Return a line that says what was found beside what is wanted of it: at least that."""
    return f"{claim:60} {found:8.2f}   wanted {wanted:g}: {'reached' if found >= wanted else 'MISSED'}"
