from __future__ import annotations

import pytest

from vrtool.watching.words import amount, decibels, duration, short_time


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (50, "50 s"), (3600, "1 h"), (7500, "2 h 5 min"), (86400 * 3 + 7300, "3 d 2 h"), (86399.6, "1 d")],
)
def test_a_duration_is_said_by_its_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_what_is_missing_is_a_dash() -> None:
    assert (decibels(None), short_time(None), short_time("soon")) == ("–", "–", "–")


def test_numbers_are_short() -> None:
    assert (decibels(-0.04), decibels(-3.21)) == ("0.0", "−3.2")
    assert (amount(9999), amount(13_200), amount(163e6)) == ("9,999", "13 k", "163.0 M")
    assert short_time("2026-01-31T12:05:59+00:00") == "2026-01-31 12:05 UTC"
