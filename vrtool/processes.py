"""Worker processes that belong to this one: only it hears Ctrl-C, and they end when it does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType

TERMINATION_SECONDS = 100.0
"""How long a worker outlives a request to terminate, which clusters send to all processes of a job: its parent may
need it for what it still has to finish."""


def follow_parent() -> None:
    """Make this worker process leave Ctrl-C to its parent and end when the parent does; the first that it calls."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminate_later)
    # A parent that is killed tells nobody: its workers would wait for tasks for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _terminate_later(_number: int, _frame: FrameType | None) -> None:
    later = threading.Timer(TERMINATION_SECONDS, os._exit, [1])
    later.daemon = True
    later.start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Start processes that never get Ctrl-C, not even while they start; here it waits until the block has ended."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    # Children inherit the mask. It does not help here, where the signal finds another thread that takes it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if held:
        raise KeyboardInterrupt
