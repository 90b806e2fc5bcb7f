"""Runs a preparation over an executor: every track on its own, problems gathered, the manifest written at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vrtool.atomic import DISK_FULL
from vrtool.dataset.cache import Cache
from vrtool.dataset.header import TrackHeader
from vrtool.dataset.track import Problem, Track
from vrtool.errors import InterruptedRunError, JobError, VrtoolError
from vrtool.preparation.material import is_patch
from vrtool.preparation.plan import PreparationPlan, finish_cache, remove_partial_files, start_cache
from vrtool.preparation.task import TrackTask
from vrtool.preparation.track import prepare_track
from vrtool.processes import interrupts_held_back

UNSEEN_SECONDS = 60.0
"""How long a network file system may deny a new file: Linux's NFS asks again after 60 seconds (acdirmax in nfs(5))."""


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


def prepare(
    plan: PreparationPlan, executor: Executor, on_progress: Callable[[Progress], None] | None = None
) -> PreparationReport:
    """Prepare a plan's tracks and return the report; the cache holds all that could be done, whatever happens.

    Tracks that cannot be used are in the report's problems. Raises InterruptedRunError on Ctrl-C after the tracks under
    way are finished (a Dask cluster finishes them by itself), OSError if the disk is full, JobError if a worker process
    was killed, or if workers have other disks than this process.
    """
    start_cache(plan)
    prepared: dict[Path, TrackHeader] = {}
    problems: list[Problem] = []
    futures: dict[Future[TrackHeader], TrackTask] = {}
    sizes_bytes = {task.destination: _source_bytes(task.track) for task in plan.tasks}
    meter = _Meter(sizes_bytes, on_progress)
    try:
        with interrupts_held_back():
            # The longest first: one that began last would keep a single worker busy when all others have ended.
            for task in sorted(plan.tasks, key=lambda task: sizes_bytes[task.destination], reverse=True):
                # Absolute, as a worker of a cluster has another working directory.
                futures[executor.submit(prepare_track, _with_absolute_destination(task))] = task
        for future in as_completed(futures):
            # Taken out only when noted down: an interruption in between shall not forget it.
            task = futures[future]
            result = _outcome(future, task)
            if isinstance(result, Problem):
                problems.append(result)
            else:
                _check_shared(task.destination)
                prepared[task.destination] = result
            del futures[future]
            meter.advance(task)
        remove_partial_files(plan.settings.output)  # of workers that were killed while others went on
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
        cache = finish_cache(plan, prepared)
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
        _check_seen(error, task.track)
        return _problem(task.track, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except BrokenExecutor:
        raise
    except Exception as error:  # what one strange file sets off shall not end the work of a day
        return _problem(task.track, f"failed unexpectedly ({type(error).__name__}: {error})")


def _with_absolute_destination(task: TrackTask) -> TrackTask:
    return replace(task, destination=task.destination.absolute())


def _check_shared(destination: Path) -> None:
    """Raise JobError unless the file that a worker has written is here, too."""
    deadline = time.monotonic() + UNSEEN_SECONDS
    while not destination.is_file():
        if time.monotonic() > deadline:
            raise JobError(
                f"{destination}: a worker has finished it, but it is not here; the cache must lie on a disk that all "
                "machines share, under the same path, then run the same command again"
            )
        time.sleep(0.1)


def _check_seen(error: OSError, track: Track) -> None:
    """Raise JobError if what a worker did not find is a source that is here."""
    sources = {str(source.path) for parts in track.sources.values() for source in parts}
    if isinstance(error, FileNotFoundError) and error.filename in sources and Path(error.filename).exists():
        raise JobError(
            f"{error.filename}: it is here, but a worker does not find it; libraries must lie on a disk that all "
            "machines share, under the same path, then run the same command again"
        ) from error


def _problem(track: Track, reason: str) -> Problem:
    """Name a track by its file, by the folder that all of its files are in, or by what its patches begin with."""
    paths = list(dict.fromkeys(source.path for parts in track.sources.values() for source in parts))
    is_folder = len(paths) > 1 and len({path.parent for path in paths}) == 1
    where = str(paths[0].parent if is_folder else paths[0])
    if is_patch(paths[0]):
        where = str(paths[0].with_name(track.name.rpartition("/")[2]))
    return Problem(path=where, reason=reason.removeprefix(f"{where}: "))


def _finish_running(futures: dict[Future[TrackHeader], TrackTask]) -> dict[Path, TrackHeader]:
    """Drop what has not begun, wait for what has, and return what came of it."""
    running = {future: task for future, task in futures.items() if not future.cancel()}
    results: dict[Path, TrackHeader | Problem] = {}
    for future, task in running.items():
        # The interruption is the news, and may have come from this very task.
        with suppress(BrokenExecutor, OSError, KeyboardInterrupt):
            results[task.destination] = _outcome(future, task)
    return {path: result for path, result in results.items() if not isinstance(result, Problem)}


def _source_bytes(track: Track) -> int:
    paths = {source.path for parts in track.sources.values() for source in parts}
    return sum(path.stat().st_size for path in paths if path.exists())


class _Meter:
    def __init__(self, sizes_bytes: Mapping[Path, int], on_progress: Callable[[Progress], None] | None) -> None:
        self._on_progress = on_progress
        self._sizes_bytes = sizes_bytes
        self._total_bytes = sum(sizes_bytes.values())
        self._done_tracks = self._done_bytes = 0

    def advance(self, task: TrackTask) -> None:
        self._done_tracks += 1
        self._done_bytes += self._sizes_bytes[task.destination]
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    done_tracks=self._done_tracks,
                    total_tracks=len(self._sizes_bytes),
                    done_bytes=self._done_bytes,
                    total_bytes=self._total_bytes,
                )
            )
