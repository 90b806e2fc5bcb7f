"""The two consoles and the progress display that all commands share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from vrtool.dataset.track import Problem

console = Console(highlight=False)
"""Results, on standard output."""
errors = Console(stderr=True, highlight=False)
"""Progress, warnings and errors, on standard error, so that output can be piped."""

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress_bar(description: str, unit: str) -> Iterator[Callable[[float, float], None]]:
    """Show a bar on standard error while the block runs and give `advance(done, total)` to move it.

    `unit` says what is counted. Where standard error is not a terminal, a line now and then takes the bar's place.
    """
    if not errors.is_terminal:
        yield _line_now_and_then(description, unit)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as progress:
        task = progress.add_task(description, total=None)

        def advance(done: float, total: float) -> None:
            progress.update(task, completed=done, total=total)

        yield advance


def _line_now_and_then(description: str, unit: str) -> Callable[[float, float], None]:
    last = time.monotonic()

    def advance(done: float, total: float) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            errors.print(f"{description}: {done:,} of {total:,} {unit}", markup=False)

    return advance


def print_problems(problems: Sequence[Problem], consequence: str) -> None:
    """Name what could not be used and why, on standard error."""
    from rich.markup import escape

    errors.print(f"\n[bold yellow]{len(problems)} could not be used[/] ({consequence}):")
    for problem in problems:
        errors.print(f"  [bold]{escape(problem.path)}[/]: {escape(problem.reason)}", soft_wrap=True)
