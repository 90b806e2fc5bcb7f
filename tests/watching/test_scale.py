from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrtool.watching.scale import from_zero, linear_scale, step_scale, tick_label, value_scale

numbers = st.floats(min_value=-1e9, max_value=1e9).map(lambda number: round(number, 6))


@given(st.lists(numbers, min_size=1, max_size=20))
def test_every_value_lies_on_the_axis_between_few_round_marks(values: list[float]) -> None:
    for scale in (linear_scale(values), value_scale(values)):
        assert all(-1e-6 <= scale.share(value) <= 1 + 1e-6 for value in values)
        assert 2 <= len(scale.ticks) <= 8
        assert list(scale.ticks) == sorted(set(scale.ticks))


@pytest.mark.parametrize(("low", "high"), [(1e-7, 1e-3), (0.002, 0.9), (1.0, 31.0)])
def test_far_apart_values_get_a_logarithmic_axis_with_powers_of_ten(low: float, high: float) -> None:
    scale = value_scale([high, low])
    assert scale.is_logarithmic
    assert all(math.log10(tick) == pytest.approx(round(math.log10(tick))) for tick in scale.ticks)
    assert scale.share(math.sqrt(low * high)) == pytest.approx((scale.share(low) + scale.share(high)) / 2)


def test_values_near_each_other_or_not_above_zero_get_a_linear_axis() -> None:
    assert not value_scale([1.0, 20.0]).is_logarithmic
    assert not value_scale([0.0, 1e6]).is_logarithmic


def test_an_axis_of_steps_ends_with_the_last_one_and_has_whole_marks() -> None:
    scale = step_scale(4321.0)
    assert (scale.low, scale.high) == (0.0, 4321.0)
    assert scale.ticks == (0.0, 1000.0, 2000.0, 3000.0, 4000.0)
    assert step_scale(3.0).ticks == (0.0, 1.0, 2.0, 3.0)


def test_an_axis_from_zero_begins_there() -> None:
    assert from_zero([5.0, 7.0]).low == 0.0


@pytest.mark.parametrize(
    ("value", "label"),
    [(0.0, "0"), (160000.0, "160k"), (1.5e6, "1.5M"), (0.002, "0.002"), (5e-7, "5e-7"), (-3.0, "−3"), (1000.0, "1000")],
)
def test_marks_are_named_as_short_as_can_be_read(value: float, label: str) -> None:
    assert tick_label(value) == label
