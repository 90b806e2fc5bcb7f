"""Files and folders of songs in, a tree of stems out: what is planned, what is skipped, what went wrong."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vrtool.atomic import DISK_FULL, atomic_path
from vrtool.audio.waveform import OUTPUT_FORMATS, Subtype, Waveform, probe_audio, read_audio, write_audio
from vrtool.dataset.folders import Folder, printable_name, scan_library
from vrtool.dataset.library import Problem
from vrtool.errors import AudioError, InputError
from vrtool.separation.separator import Separator
from vrtool.separation.stems import Stems

# With these no later file fares better than the one that met them: no space, no quota, a disk that takes no writes.
FATAL_ERRNOS = DISK_FULL | {errno.EROFS}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationJob:
    """One song to separate: its file, its name within the output folder, and where its stems go."""

    source: Path
    track: str
    vocals: Path
    instrumental: Path

    @property
    def outputs(self) -> tuple[Path, Path]:
        """The files that the job writes."""
        return self.vocals, self.instrumental


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationPlan:
    """The songs to separate, how samples are written (None: as the format likes), and what could not be looked into."""

    jobs: tuple[SeparationJob, ...]
    subtype: Subtype | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparatedTrack:
    """A song that was separated: how long it is, and how many samples of both stems the format had to clip."""

    job: SeparationJob
    duration_seconds: float
    num_clipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationReport:
    """What became of a batch: songs separated, songs whose stems were already there, songs that could not be done."""

    separated: tuple[SeparatedTrack, ...]
    skipped: tuple[SeparationJob, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationProgress:
    """Where a batch stands: the song at work, and how much audio of how much is done, in seconds."""

    track: str
    track_number: int
    num_tracks: int
    done_seconds: float
    total_seconds: float


def plan_separation(
    inputs: Sequence[Path], output: Path, *, audio_format: str = "wav", subtype: Subtype | None = None
) -> SeparationPlan:
    """Return the jobs for audio files and folders of them, in a fixed order; no audio is read, nothing written yet.

    A file's track is its name without the suffix; a folder's tracks keep their path within it. Raises InputError if
    an input is missing or holds no audio, if two songs would be written to one place, or a song over itself.
    """
    if audio_format not in OUTPUT_FORMATS:
        raise InputError(f"--format {audio_format}: expected one of {', '.join(OUTPUT_FORMATS)}")
    subtypes = OUTPUT_FORMATS[audio_format].subtypes
    if subtype is not None and subtype not in subtypes:
        choice = f"one of {', '.join(subtypes)}" if subtypes else "none"
        raise InputError(f"--subtype {subtype}: expected {choice} for --format {audio_format}")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; stems are written into a folder, name another one")
    problems: list[Problem] = []
    jobs: dict[Path, SeparationJob] = {}
    for source, track in _find_songs(inputs, output, problems):
        folder = output / track
        job = SeparationJob(
            source=source,
            track=printable_name(track.as_posix()),
            vocals=folder / f"vocals.{audio_format}",
            instrumental=folder / f"instrumental.{audio_format}",
        )
        other = jobs.setdefault(folder, job)
        if other.source.resolve() != source.resolve():
            raise InputError(
                f"{other.source} and {source} would both be written to {folder}; rename one, or separate them into "
                "different output folders"
            )
    _refuse_writing_over_sources(list(jobs.values()))
    return SeparationPlan(jobs=tuple(jobs.values()), subtype=subtype, problems=tuple(problems))


def separate_files(
    separator: Separator,
    plan: SeparationPlan,
    *,
    overwrite: bool = False,
    on_progress: Callable[[SeparationProgress], None] | None = None,
) -> SeparationReport:
    """Separate every planned song and write its stems, and return what became of each.

    Songs whose stems are there are skipped unless `overwrite`. One that cannot be read or written becomes a problem of
    the report and the others go on; only a full or read-only disk ends the batch, with its OSError. The two stems of a
    song appear together when both are complete.
    """
    separated: list[SeparatedTrack] = []
    problems = list(plan.problems)
    todo: list[SeparationJob] = []
    skipped: list[SeparationJob] = []
    for job in plan.jobs:
        existing = [] if overwrite else existing_outputs(job)
        if len(existing) == 1:
            problems.append(
                Problem(
                    path=job.track,
                    reason=f"{existing[0]} is there without the other stem; --overwrite replaces it by both",
                )
            )
        else:
            (skipped if existing else todo).append(job)
    reporter = _Reporter(todo, on_progress)
    for number, job in enumerate(todo):
        try:
            separated.append(_separate_file(separator, job, plan.subtype, reporter.of_track(number)))
        except (AudioError, InputError, OSError) as error:
            if isinstance(error, OSError) and error.errno in FATAL_ERRNOS:
                raise
            problems.append(Problem(path=job.track, reason=str(error)))
    return SeparationReport(separated=tuple(separated), skipped=tuple(skipped), problems=tuple(problems))


def existing_outputs(job: SeparationJob) -> list[Path]:
    """Return the stems of a song that are there already."""
    return [path for path in job.outputs if path.exists()]


def write_stems(stems: Stems, *, vocals: Path, instrumental: Path, subtype: Subtype | None = None) -> int:
    """Write both stems, formats by suffix, and return how many samples the formats had to clip.

    Neither file appears before both are complete. Raises AudioError if a format cannot hold the audio; OSErrors pass.
    """
    created = [folder for folder in (vocals.parent, *vocals.parent.parents) if not folder.exists()]
    vocals.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_path(vocals) as vocals_part, atomic_path(instrumental) as instrumental_part:
            return _write_part(vocals_part, vocals, stems.vocals, subtype) + _write_part(
                instrumental_part, instrumental, stems.instrumental, subtype
            )
    except BaseException:
        # A folder without stems would look like a song that was done.
        with contextlib.suppress(OSError):
            for folder in created:
                folder.rmdir()
        raise


def _write_part(part: Path, destination: Path, waveform: Waveform, subtype: Subtype | None) -> int:
    try:
        return write_audio(part, waveform, subtype=subtype)
    except AudioError as error:
        # The temporary name means nothing to a person.
        raise AudioError(str(error).replace(str(part), str(destination))) from error


def _separate_file(
    separator: Separator, job: SeparationJob, subtype: Subtype | None, on_progress: Callable[[int, int], None]
) -> SeparatedTrack:
    mixture = read_audio(job.source)
    stems = separator.separate(mixture, on_progress=on_progress)
    num_clipped = write_stems(stems, vocals=job.vocals, instrumental=job.instrumental, subtype=subtype)
    return SeparatedTrack(job=job, duration_seconds=mixture.duration_seconds, num_clipped=num_clipped)


class _Reporter:
    """Turns chunks done of one song into seconds of audio done of the whole batch."""

    def __init__(self, jobs: Sequence[SeparationJob], on_progress: Callable[[SeparationProgress], None] | None) -> None:
        self._jobs = jobs
        self._on_progress = on_progress
        self._seconds = [_probed_seconds(job.source) for job in jobs] if on_progress else []

    def of_track(self, number: int) -> Callable[[int, int], None]:
        """Return the callback for the chunks of song `number`."""
        on_progress = self._on_progress
        if on_progress is None:
            return lambda _done, _total: None
        before, total_seconds = sum(self._seconds[:number]), sum(self._seconds)

        def report(done: int, total: int) -> None:
            on_progress(
                SeparationProgress(
                    track=self._jobs[number].track,
                    track_number=number + 1,
                    num_tracks=len(self._jobs),
                    done_seconds=before + self._seconds[number] * done / total,
                    total_seconds=total_seconds,
                )
            )

        report(0, 1)
        return report


def _probed_seconds(path: Path) -> float:
    """Return what the header says of a file's length; 0 where it says nothing: the file's turn will tell why."""
    try:
        info = probe_audio(path)
    except (AudioError, InputError, OSError):
        return 0.0
    return (info.num_samples or 0) / info.sample_rate


def _find_songs(inputs: Sequence[Path], output: Path, problems: list[Problem]) -> Iterator[tuple[Path, Path]]:
    """Yield each song's file and its track's path within the output; unreadable folders become problems."""
    for path in inputs:
        if not path.is_dir():
            if not path.exists():
                raise InputError(f"{path}: expected an audio file or a folder of them, found nothing of that name")
            # A file that is named is taken at its word whatever its suffix: decoding will tell.
            yield path, Path(path.stem)
            continue
        if path.resolve() == output.resolve():
            raise InputError(
                f"{path} is both input and output; stems would be taken for songs the next time, name another output"
            )
        library, unreadable = scan_library(path)
        problems += unreadable
        for source in _files_outside(library, output.resolve()):
            yield source, source.relative_to(path).with_suffix("")


def _files_outside(folder: Folder, output: Path) -> Iterator[Path]:
    """Yield the audio files of a folder and of those below it but `output`: stems of an earlier run are no songs."""
    yield from folder.files
    for below in folder.folders:
        if below.path.resolve() != output:
            yield from _files_outside(below, output)


def _refuse_writing_over_sources(jobs: Sequence[SeparationJob]) -> None:
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        for path in job.outputs:
            if path.resolve() in sources:
                raise InputError(f"{path} is an input and would be written over; name another output folder")
