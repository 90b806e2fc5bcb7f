"""Files and folders of songs in, a tree of stems out: one after another or several at once, and what went wrong."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import torch

from vrtool.atomic import DISK_FULL, atomic_path, new_path
from vrtool.audio.waveform import probe_audio
from vrtool.dataset.track import Problem
from vrtool.errors import AudioError, InputError
from vrtool.separation.passes import compute_in
from vrtool.separation.plan import CopyJob, SeparationJob, SeparationPlan
from vrtool.separation.separator import Separator
from vrtool.separation.song_file import split_file
from vrtool.separation.song_stream import OnProgress

# With these no later file fares better than the one that met them: no space, no quota, a disk that takes no writes.
FATAL_ERRNOS = DISK_FULL | {errno.EROFS}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparatedTrack:
    """A song that was separated, its length, and what was done to samples beyond full scale; see `SplitFile`."""

    job: SeparationJob
    duration_seconds: float
    num_clipped: int
    gain_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationReport:
    """What became of a batch: songs separated and files copied, songs already there, and what could not be done."""

    separated: tuple[SeparatedTrack, ...]
    skipped: tuple[SeparationJob, ...]
    problems: tuple[Problem, ...]
    num_copied: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationProgress:
    """Where a batch stands, told of one of the songs at work: how much audio of how much is done, in seconds.

    Songs that do not say how long they are have 0 seconds until they are done. `is_over` with a song's last word,
    whatever became of it.
    """

    track: str
    track_number: int
    num_tracks: int
    track_done_seconds: float
    track_seconds: float
    done_seconds: float
    total_seconds: float
    is_over: bool


OnBatchProgress = Callable[[SeparationProgress], None]


def separate_files(
    separator: Separator,
    plan: SeparationPlan,
    *,
    overwrite: bool = False,
    num_jobs: int = 1,
    on_progress: OnBatchProgress | None = None,
) -> SeparationReport:
    """Separate every planned song and write its stems, and return what became of each, in the plan's order.

    Songs whose stems are there are skipped unless `overwrite`, and stems that appear meanwhile stay. A song that cannot
    be read or written becomes a problem of the report and the others go on; only a full or read-only disk, a damaged
    network, or what `on_progress` raises ends the batch. `num_jobs` songs are at work at once, in threads that share
    the network and torch's threads.
    """
    problems = list(plan.problems)
    todo, skipped = _pending(plan.jobs, overwrite, problems)
    num_copied = sum(_copied(copy, overwrite, problems) for copy in plan.copies)
    batch = _Batch(separator, plan, todo, on_progress, overwrite=overwrite)
    outcomes = _run(batch, len(todo), min(num_jobs, len(todo)))
    return SeparationReport(
        separated=tuple(outcome for outcome in outcomes if isinstance(outcome, SeparatedTrack)),
        skipped=tuple(skipped),
        problems=(*problems, *(outcome for outcome in outcomes if isinstance(outcome, Problem))),
        num_copied=num_copied,
    )


def existing_outputs(job: SeparationJob) -> list[Path]:
    """Return the stems of a song that are there already."""
    return [path for path in job.outputs if path.exists()]


def _pending(
    jobs: Sequence[SeparationJob], overwrite: bool, problems: list[Problem]
) -> tuple[list[SeparationJob], list[SeparationJob]]:
    """Return the songs to separate and those that are there; one that is there by half becomes a problem."""
    todo: list[SeparationJob] = []
    skipped: list[SeparationJob] = []
    for job in jobs:
        existing = [] if overwrite else existing_outputs(job)
        if existing and len(existing) < len(job.outputs):
            reason = f"{existing[0]} is there without the other stem; --overwrite replaces it by both"
            problems.append(Problem(path=job.track, reason=reason))
        else:
            (skipped if existing else todo).append(job)
    return todo, skipped


def _copied(copy: CopyJob, overwrite: bool, problems: list[Problem]) -> bool:
    """Copy a file unless it is there, and return whether it was; what keeps one from it becomes a problem."""
    if copy.destination.exists() and not overwrite:
        return False
    try:
        copy.destination.parent.mkdir(parents=True, exist_ok=True)
        with (atomic_path if overwrite else new_path)(copy.destination) as temporary:
            shutil.copyfile(copy.source, temporary)
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.errno in FATAL_ERRNOS:
            raise
        problems.append(Problem(path=str(copy.source), reason=str(error)))
        return False
    return True


class _StoppedError(Exception):
    """Another song has ended the batch."""


class _Batch:
    """The songs of a batch, each to be separated by its number, from any thread."""

    def __init__(
        self,
        separator: Separator,
        plan: SeparationPlan,
        jobs: Sequence[SeparationJob],
        on_progress: OnBatchProgress | None,
        *,
        overwrite: bool,
    ) -> None:
        self._separator = separator
        self._overwrite = overwrite
        self._format = plan.files.stem_format
        self._jobs = jobs
        self._on_progress = on_progress
        self._seconds = [_probed_seconds(job.source) for job in jobs] if on_progress else []
        self._done_seconds = [0.0] * len(jobs)
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let the songs at work end soon, and leave nothing of themselves."""
        self._stopped.set()

    def separate(self, number: int) -> SeparatedTrack | Problem:
        """Return what became of a song."""
        job = self._jobs[number]
        try:
            split = split_file(
                self._separator.open_stream,
                job.source,
                job.destinations,
                self._format,
                overwrite=self._overwrite,
                picture=job.picture,
                on_progress=self._reporter(number),
            )
        except (AudioError, InputError, OSError) as error:
            if isinstance(error, OSError) and error.errno in FATAL_ERRNOS:
                raise
            self._tell(number, None, is_over=True)
            return Problem(path=job.track, reason=str(error))
        self._tell(number, split.duration_seconds, is_over=True)
        return SeparatedTrack(
            job=job, duration_seconds=split.duration_seconds, num_clipped=split.num_clipped, gain_db=split.gain_db
        )

    def _reporter(self, number: int) -> OnProgress:
        """Return the callback of song `number`, which also ends it when the batch is stopped."""

        def report(done_seconds: float, _total_seconds: float | None) -> None:
            if self._stopped.is_set():
                raise _StoppedError
            self._tell(number, done_seconds, is_over=False)

        return report

    def _tell(self, number: int, done_seconds: float | None, *, is_over: bool) -> None:
        """Report that so much of song `number` is done; None if it will never be."""
        if self._on_progress is None:
            return
        with self._lock:
            known = self._seconds[number]
            if is_over:
                # From now on it counts with its true length, that of a failed one as if it were done.
                self._seconds[number] = known if done_seconds is None else done_seconds
            self._done_seconds[number] = known if done_seconds is None else done_seconds
            self._on_progress(
                SeparationProgress(
                    track=self._jobs[number].track,
                    track_number=number + 1,
                    num_tracks=len(self._jobs),
                    track_done_seconds=self._done_seconds[number],
                    track_seconds=self._seconds[number],
                    done_seconds=sum(self._done_seconds),
                    total_seconds=sum(map(max, self._seconds, self._done_seconds)),
                    is_over=is_over,
                )
            )


def _run(batch: _Batch, num_songs: int, num_jobs: int) -> list[SeparatedTrack | Problem]:
    """Return the outcomes of all songs; where an error ends the batch, the songs at work leave nothing."""
    if num_jobs <= 1:
        return [batch.separate(number) for number in range(num_songs)]
    threads_each = max(1, torch.get_num_threads() // num_jobs)
    with ThreadPoolExecutor(num_jobs, initializer=compute_in, initargs=(threads_each,)) as pool:
        futures = [pool.submit(batch.separate, number) for number in range(num_songs)]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                if (error := future.exception()) is not None:
                    raise error
            return [future.result() for future in futures]
        finally:
            batch.stop()
            pool.shutdown(cancel_futures=True)


def _probed_seconds(path: Path) -> float:
    """Return what the header says of a file's length; 0 where it says nothing: the file's turn will tell why."""
    try:
        info = probe_audio(path)
    except (AudioError, InputError, OSError):
        return 0.0
    return (info.num_samples or 0) / info.sample_rate
