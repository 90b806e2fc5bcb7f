"""What a batch of songs is to become: which files are separated, under which names, and what speaks against it."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vrtool.dataset.folders import Folder, printable_name, scan_library
from vrtool.dataset.track import Problem
from vrtool.errors import InputError
from vrtool.separation.song_file import STEM_NAMES, StemFormat, StemName

DEFAULT_FILENAME = "{track}/{stem}.{ext}"

FIELDS = ("track", "stem", "ext")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationJob:
    """One song to separate: its file, its name within the output folder, and where its stems go."""

    source: Path
    track: str
    destinations: Mapping[StemName, Path]
    picture: Path | None = None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The stems that the job writes."""
        return tuple(self.destinations.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyJob:
    """One file that is to be in the output folder as it is."""

    source: Path
    destination: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StemFiles:
    """Which stems are wanted, in which format, and what their files are called within the output folder.

    `filename` is made of {track}, {stem} and {ext}; a track of a folder has the folders between in its name. Raises
    InputError if it is made of others, leads out of the output folder, does not tell stems or songs apart, or ends
    otherwise than the format.
    """

    stem_format: StemFormat = field(default_factory=StemFormat)
    stems: tuple[StemName, ...] = STEM_NAMES
    filename: str = DEFAULT_FILENAME
    images: bool = False
    """Whether a picture of the song's spectrograms lies beside its stems."""

    def __post_init__(self) -> None:
        try:
            parts = list(string.Formatter().parse(self.filename))
        except ValueError as error:
            raise InputError(f"--filename {self.filename}: {error}; a brace itself is written twice") from error
        names = {name for _, name, _, _ in parts if name is not None}
        if not names <= set(FIELDS) or any(spec or conversion for _, _, spec, conversion in parts):
            raise InputError(f"--filename {self.filename}: expected no fields but {{track}}, {{stem}} and {{ext}}")
        if missing := {"track", *(["stem"] if len(self.stems) > 1 else [])} - names:
            raise InputError(
                f"--filename {self.filename}: without {{{sorted(missing)[0]}}} files would be written over each other; "
                f"{DEFAULT_FILENAME} is usual"
            )
        example = PurePosixPath(self.path_of("song", self.stems[0]).as_posix())
        if example.is_absolute() or ".." in example.parts or example.suffix.lower() != f".{self.stem_format.name}":
            raise InputError(
                f"--filename {self.filename}: expected a path below the output folder that ends in "
                f".{self.stem_format.name}, as {DEFAULT_FILENAME} does, found {example}"
            )

    def path_of(self, track: str, stem: StemName) -> Path:
        """Return the path of a stem within the output folder."""
        return Path(self.filename.format(track=track, stem=stem, ext=self.stem_format.name))

    def picture_of(self, track: str) -> Path | None:
        """Return the path of a song's picture within the output folder, None where none is wanted."""
        if not self.images:
            return None
        return Path(self.filename.format(track=track, stem="spectrograms", ext="png")).with_suffix(".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationPlan:
    """The songs to separate, the files to copy, how stems are written, and what could not be looked into."""

    jobs: tuple[SeparationJob, ...]
    files: StemFiles
    problems: tuple[Problem, ...]
    copies: tuple[CopyJob, ...] = ()


def plan_separation(
    inputs: Sequence[Path], output: Path, *, files: StemFiles | None = None, copies: Sequence[Path] = ()
) -> SeparationPlan:
    """Return the jobs for audio files and folders of them, in a fixed order; no audio is read, nothing written yet.

    A file's track is its name without the suffix; a folder's tracks keep their path within it. `copies` are audio files
    and folders of them that go into the output as they are. Raises InputError if an input is missing or holds no audio,
    if two files would be written to one place, or one over an input.
    """
    files = files or StemFiles()
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; stems are written into a folder, name another one")
    problems: list[Problem] = []
    jobs: dict[Path, SeparationJob] = {}
    for source, name in _find_songs(inputs, output, problems):
        track = name.with_suffix("")
        destinations = {stem: output / files.path_of(track.as_posix(), stem) for stem in files.stems}
        picture = files.picture_of(track.as_posix())
        job = SeparationJob(
            source=source,
            track=printable_name(track.as_posix()),
            destinations=destinations,
            picture=picture and output / picture,
        )
        other = jobs.setdefault(job.outputs[0], job)
        if other.source.resolve() != source.resolve():
            raise InputError(
                f"{other.source} and {source} would both be written to {job.outputs[0]}; rename one, or separate them "
                "into different output folders"
            )
    copy_jobs = [
        CopyJob(source=source, destination=output / name) for source, name in _find_songs(copies, output, problems)
    ]
    _refuse_collisions(list(jobs.values()), copy_jobs)
    return SeparationPlan(jobs=tuple(jobs.values()), files=files, problems=tuple(problems), copies=tuple(copy_jobs))


def _find_songs(inputs: Sequence[Path], output: Path, problems: list[Problem]) -> Iterator[tuple[Path, Path]]:
    """Yield each audio file and its path within the output; unreadable folders become problems."""
    for path in inputs:
        if not path.is_dir():
            if not path.exists():
                raise InputError(f"{path}: expected an audio file or a folder of them, found nothing of that name")
            # A file that is named is taken at its word whatever its suffix: decoding will tell.
            yield path, Path(path.name)
            continue
        if path.resolve() == output.resolve():
            raise InputError(
                f"{path} is both input and output; stems would be taken for songs the next time, name another output"
            )
        library, unreadable = scan_library(path)
        problems += unreadable
        for source in _files_outside(library, output.resolve()):
            yield source, source.relative_to(path)


def _files_outside(folder: Folder, output: Path) -> Iterator[Path]:
    """Yield the audio files of a folder and of those below it but `output`: stems of an earlier run are no songs."""
    yield from folder.files
    for below in folder.folders:
        if below.path.resolve() != output:
            yield from _files_outside(below, output)


def _refuse_collisions(jobs: Sequence[SeparationJob], copies: Sequence[CopyJob]) -> None:
    """Raise InputError if a file would be written over an input, or two files to one place."""
    written = [(job.source, job.outputs) for job in jobs] + [(copy.source, (copy.destination,)) for copy in copies]
    sources = {source.resolve() for source, _ in written}
    writers: dict[Path, Path] = {}
    for source, outputs in written:
        for path in outputs:
            if path.resolve() in sources:
                raise InputError(f"{path} is an input and would be written over; name another output folder")
            other = writers.setdefault(path, source)
            if other != source:
                raise InputError(f"{other} and {source} would both be written to {path}; rename one")
