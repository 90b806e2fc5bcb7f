"""Ctrl-C as a request that a command may carry out in its own time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_to(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` when Ctrl-C or a request to terminate arrives while the block runs, in place of what they would do.

    A second request to terminate is nothing new: launchers pass on one that the cluster has sent to all processes.
    """
    has_terminated = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal has_terminated
        if number == signal.SIGTERM and has_terminated:
            return
        has_terminated = has_terminated or number == signal.SIGTERM
        ask()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
