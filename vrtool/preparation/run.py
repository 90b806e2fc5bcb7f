"""Runs a preparation over an executor: every track on its own, problems gathered, the manifest written at the end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

from vrtool.atomic import DISK_FULL
from vrtool.dataset.cache import Cache, write_manifest
from vrtool.dataset.header import TrackHeader
from vrtool.dataset.library import Problem, Track
from vrtool.errors import InterruptedRunError, JobError, VrtoolError
from vrtool.preparation.plan import PreparationPlan, start_cache
from vrtool.preparation.track import TrackTask, prepare_track

MAX_WINDOWS_WORKERS = 61
"""What Windows can wait for at once, less what the pool itself needs (documented with ProcessPoolExecutor)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a preparation is, in tracks and in bytes of source files (which foretell time better)."""

    done_tracks: int
    total_tracks: int
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationReport:
    """What a preparation has made: the cache, how many tracks are new in it, and what could not be used."""

    cache: Cache
    num_prepared: int
    num_unchanged: int
    problems: tuple[Problem, ...]


def process_pool(num_jobs: int) -> Executor:
    """Return a pool of worker processes that leave Ctrl-C to their parent and end when it does."""
    # Spawned, not forked: the parent's threads (progress display, BLAS) would be copied in whatever state they are in.
    context = get_context("spawn")
    workers = min(num_jobs, MAX_WINDOWS_WORKERS) if sys.platform == "win32" else num_jobs
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A parent that is killed tells nobody: its workers would wait for tasks for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
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


def prepare(
    plan: PreparationPlan, executor: Executor, on_progress: Callable[[Progress], None] | None = None
) -> PreparationReport:
    """Prepare a plan's tracks and return the report; the cache holds all that could be done, whatever happens.

    Tracks that cannot be used are in the report's problems. Raises InterruptedRunError on Ctrl-C after the tracks under
    way are finished, OSError if the disk is full.
    """
    start_cache(plan)
    prepared: dict[Path, TrackHeader] = {}
    problems: list[Problem] = []
    futures: dict[Future[TrackHeader], TrackTask] = {}
    meter = _Meter(plan, on_progress)
    try:
        with _interrupts_held_back():
            for task in plan.tasks:
                futures[executor.submit(prepare_track, task)] = task
        for future in as_completed(futures):
            task = futures.pop(future)
            result = _outcome(future, task)
            if isinstance(result, Problem):
                problems.append(result)
            else:
                prepared[task.destination] = result
            meter.advance(task)
    except BrokenProcessPool as error:
        raise JobError(
            "a worker process was killed, most often because memory ran out; the finished tracks are kept: "
            "run the same command again with fewer --jobs"
        ) from error
    except KeyboardInterrupt as error:
        prepared |= _finish_running(futures)
        raise InterruptedRunError(
            f"interrupted: {len(prepared)} of {len(plan.tasks)} tracks were prepared and are kept; "
            "run the same command again to go on"
        ) from error
    finally:
        for future in futures:
            future.cancel()
        cache = plan.cache(prepared)
        if prepared or plan.finished:
            write_manifest(cache)
    return PreparationReport(
        cache=cache,
        num_prepared=len(prepared),
        num_unchanged=len(plan.finished),
        problems=(*plan.problems, *sorted(problems, key=lambda problem: problem.path)),
    )


def _outcome(future: Future[TrackHeader], task: TrackTask) -> TrackHeader | Problem:
    try:
        return future.result()
    except VrtoolError as error:
        return _problem(task.track, str(error))
    except MemoryError:
        return _problem(task.track, "is too long for the memory there is; cut it into parts or use fewer --jobs")
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        return _problem(task.track, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except BrokenProcessPool:
        raise
    except Exception as error:  # what one strange file sets off shall not end the work of a day
        return _problem(task.track, f"failed unexpectedly ({type(error).__name__}: {error})")


def _problem(track: Track, reason: str) -> Problem:
    """Name a track by its file, or by the folder that all of its files are in."""
    paths = list(dict.fromkeys(source.path for parts in track.sources.values() for source in parts))
    is_folder = len(paths) > 1 and len({path.parent for path in paths}) == 1
    where = str(paths[0].parent if is_folder else paths[0])
    return Problem(path=where, reason=reason.removeprefix(f"{where}: "))


def _finish_running(futures: dict[Future[TrackHeader], TrackTask]) -> dict[Path, TrackHeader]:
    """Drop what has not begun, wait for what has, and return what came of it."""
    running = {future: task for future, task in futures.items() if not future.cancel()}
    results: dict[Path, TrackHeader | Problem] = {}
    with suppress(BrokenProcessPool, OSError):  # the interruption is the news
        for future, task in running.items():
            results[task.destination] = _outcome(future, task)
    return {path: result for path, result in results.items() if not isinstance(result, Problem)}


def _source_bytes(track: Track) -> int:
    paths = {source.path for parts in track.sources.values() for source in parts}
    return sum(path.stat().st_size for path in paths if path.exists())


class _Meter:
    def __init__(self, plan: PreparationPlan, on_progress: Callable[[Progress], None] | None) -> None:
        self._on_progress = on_progress
        self._total_tracks = len(plan.tasks)
        self._total_bytes = sum(_source_bytes(task.track) for task in plan.tasks)
        self._done_tracks = self._done_bytes = 0

    def advance(self, task: TrackTask) -> None:
        self._done_tracks += 1
        self._done_bytes += _source_bytes(task.track)
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    done_tracks=self._done_tracks,
                    total_tracks=self._total_tracks,
                    done_bytes=self._done_bytes,
                    total_bytes=self._total_bytes,
                )
            )
