"""Passes through networks: on a CPU several at once, each in a thread of its own, while their caller goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, Lock, Thread
from typing import Self

import torch

from vrtool.audio.waveform import FloatArray

# Each takes the memory of a pass: the many cores of a large machine share a pass among them instead.
MOST_WORKERS = 4

_setting_threads = Lock()


class PassPool:
    """Computes what it is given by at most `num_threads` threads in all, `num_workers` things at once.

    Threads that share a pass meet after every layer, and wait there for the slowest; threads with a pass each never
    meet, and what else a song takes fills the gaps. So every thread has a pass of its own, up to `MOST_WORKERS`; of
    more threads each pass has `threads_each`. A single pass is not shared either: where something else runs on one of
    two cores, one over 20 seconds took 9 to 14 seconds in two threads, which wait actively, and 1.1 in one.

    May be used from several threads, whose passes take their turns; the threads end with the pool. With one thread in
    all there are none, and what is given is computed at once. A copy has threads of its own.
    """

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads
        self.threads_each = -(-num_threads // MOST_WORKERS)
        self.num_workers = num_threads // self.threads_each
        self._executor = None
        if self.num_workers > 1:
            self._executor = ThreadPoolExecutor(
                self.num_workers, thread_name_prefix="pass", initializer=compute_in, initargs=(self.threads_each,)
            )
            # All begin now: see compute_in for what they would do to threads that begin beside them.
            all_here = Barrier(self.num_workers + 1)
            for _ in range(self.num_workers):
                self._executor.submit(all_here.wait)
            all_here.wait()

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (self._num_threads,)

    @property
    def num_ahead(self) -> int:
        """How many passes of a song there should be under way while it waits for none.

        As many as workers: it then waits only where one more is there to begin as soon as one is done.
        """
        return 0 if self._executor is None else self.num_workers

    def submit(self, compute: Callable[[FloatArray], FloatArray], x: FloatArray) -> Future[FloatArray]:
        """Return what will be compute(x), or raise what that raises."""
        if self._executor is not None:
            # Once the main thread has ended, executors take no more work, though threads may have some to do.
            with suppress(RuntimeError):
                return self._executor.submit(compute, x)
        done: Future[FloatArray] = Future()
        done.set_result(compute(x))
        return done


def compute_in(num_threads: int) -> None:
    """Let torch compute in so many threads what this new thread asks of it; all others keep their number.

    torch.set_num_threads alone is about the thread that calls it and about all that have not asked torch for anything
    yet: these would have the new number too, and one that asks while this runs still has.
    """
    with _setting_threads:
        of_new_threads = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        restoring = Thread(target=torch.set_num_threads, args=(of_new_threads,))
        restoring.start()
        restoring.join()
