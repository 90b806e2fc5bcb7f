"""The axes of charts: where their marks stand, what these are called, and where a value lies between the ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LOG_FROM_RATIO = 30.0
"""Positive values that differ by more than this are told apart on a logarithmic axis only."""
NUM_TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis from `low` to `high`, both above 0 if it is logarithmic, with marks at `ticks`."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_logarithmic: bool = False

    def share(self, value: float) -> float:
        """Return where `value` lies: 0 at the low end, 1 at the high one."""
        if self.is_logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def step_scale(last_step: float) -> Scale:
    """Return the axis of steps from 0 to the last one, which need not be a round number."""
    high = max(last_step, 1.0)
    size = max(1.0, _round_step(high / NUM_TICKS))
    return Scale(low=0.0, high=high, ticks=tuple(number * size for number in range(math.floor(high / size) + 1)))


def linear_scale(values: Sequence[float]) -> Scale:
    """Return an axis that holds all `values`, one or more of them, and ends at round numbers."""
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        # A constant lies mid-axis, be it 0.
        margin = abs(low) / 2 or 1.0
        low, high = low - margin, high + margin
    size = _round_step((high - low) / NUM_TICKS)
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    ticks = tuple(number * size for number in range(first, last + 1))
    return Scale(low=min(low, ticks[0]), high=max(high, ticks[-1]), ticks=ticks)


def from_zero(values: Sequence[float]) -> Scale:
    """Return an axis for `values` of 0 or more that begins at 0."""
    return linear_scale([0.0, *values])


def value_scale(values: Sequence[float]) -> Scale:
    """Return an axis for `values`, logarithmic if all are above 0 and far apart."""
    low, high = min(values), max(values)
    if low <= 0.0 or high / low < LOG_FROM_RATIO:
        return linear_scale(values)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((last - first) / NUM_TICKS))
    ticks = tuple(10.0**exponent for exponent in range(first, last + 1, every))
    return Scale(low=10.0**first, high=10.0**last, ticks=ticks, is_logarithmic=True)


def _round_step(smallest: float) -> float:
    """Return the least of 1, 2 and 5 times a power of ten that is `smallest` or more."""
    power = 10.0 ** math.floor(math.log10(smallest))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= smallest * (1 - 1e-9))


def tick_label(value: float) -> str:
    """Return a mark's number as short as it can be read: 20k, 1.5M, 0.02, 5e-7."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    if value != 0.0 and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{float(f'{value:.6g}'):g}".replace("-", "−")
