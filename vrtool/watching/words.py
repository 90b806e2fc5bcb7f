"""Numbers and times as a report says them."""

from __future__ import annotations

from datetime import datetime

NOTHING = "–"
STEMS = ("vocals", "instrumental")


def decibels(value: float | None) -> str:
    """Return a score with one digit after the point, a dash for none."""
    # Adding zero makes 0.0 of the -0.0 that rounding leaves.
    return NOTHING if value is None else f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def short_time(text: object) -> str:
    """Return an ISO 8601 time as 2026-01-31 12:05 UTC, a dash for what is none."""
    time = parsed_time(text)
    return NOTHING if time is None else f"{time:%Y-%m-%d %H:%M} UTC"


def parsed_time(text: object) -> datetime | None:
    """Return the time that an ISO 8601 text says, None for any other."""
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def duration(seconds: float) -> str:
    """Return a length of time by its two largest units: 3 d 4 h, 2 h 5 min, 50 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [
        f"{number} {unit}" for number, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if number
    ]
    return " ".join(parts[:2]) or "0 s"


def amount(number: float) -> str:
    """Return a count in millions or thousands, in full below ten thousand."""
    if number >= 1e6:
        return f"{number / 1e6:,.1f} M"
    return f"{number / 1e3:,.0f} k" if number >= 1e4 else f"{number:,.0f}"
