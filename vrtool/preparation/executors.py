"""Who prepares the tracks: processes of this machine. For those of other machines see `cluster`."""

from __future__ import annotations

import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

from vrtool.processes import follow_parent

MAX_WINDOWS_WORKERS = 61
"""What Windows can wait for at once, less what the pool itself needs (documented with ProcessPoolExecutor)."""


def process_pool(num_jobs: int) -> Executor:
    """Return a pool of worker processes that leave Ctrl-C to their parent and end when it does."""
    # Spawned, not forked: the parent's threads (progress display, BLAS) would be copied in whatever state they are in.
    context = get_context("spawn")
    workers = min(num_jobs, MAX_WINDOWS_WORKERS) if sys.platform == "win32" else num_jobs
    return ProcessPoolExecutor(workers, mp_context=context, initializer=follow_parent)
