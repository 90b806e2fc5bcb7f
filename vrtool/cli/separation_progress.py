"""How far a batch of songs is: a bar for each song at work and one for all, or a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vrtool.cli.console import SECONDS_BETWEEN_LINES, errors

if TYPE_CHECKING:
    from rich.progress import TaskID

    from vrtool.separation.files import SeparationProgress

    Show = Callable[[SeparationProgress], None]


@contextmanager
def batch_progress() -> Iterator[Show]:
    """Show on standard error how far songs and batch are while the block runs, as it is told."""
    if not errors.is_terminal:
        yield _line_now_and_then()
        return
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, console=errors) as progress:
        total = progress.add_task("all", rate="")
        songs: dict[int, tuple[TaskID, float]] = {}
        began = time.monotonic()

        def show(told: SeparationProgress) -> None:
            if told.track_number not in songs:
                songs[told.track_number] = progress.add_task(escape(told.track), rate=""), time.monotonic()
            task, task_began = songs[told.track_number]
            if told.is_over:
                progress.remove_task(songs.pop(told.track_number)[0])
            else:
                rate = rate_words(told.track_done_seconds, told.track_seconds, time.monotonic() - task_began)
                progress.update(task, completed=told.track_done_seconds, total=told.track_seconds or None, rate=rate)
            rate = rate_words(told.done_seconds, told.total_seconds, time.monotonic() - began)
            progress.update(total, completed=told.done_seconds, total=told.total_seconds or None, rate=rate)

        yield show


def rate_words(done_seconds: float, total_seconds: float, elapsed_seconds: float) -> str:
    """Return how fast it goes and what is left, in words; nothing before there is anything to tell."""
    if done_seconds <= 0 or elapsed_seconds <= 0:
        return ""
    speed = done_seconds / elapsed_seconds
    left = clock(max(0.0, total_seconds - done_seconds) / speed)
    return f"{clock(done_seconds)} of {clock(total_seconds)}, {speed:.1f} times real time, {left} left"


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _line_now_and_then() -> Show:
    began = last = time.monotonic()

    def show(told: SeparationProgress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            words = rate_words(told.done_seconds, told.total_seconds, now - began)
            length = clock(told.track_seconds) if told.track_seconds else "a length not known"
            errors.print(
                f"{told.track} ({told.track_number} of {told.num_tracks}): {clock(told.track_done_seconds)} of "
                f"{length}; in all {words or 'nothing yet'}",
                markup=False,
                soft_wrap=True,
            )

    return show
