"""What a preparation will do: the tracks it found, which of them the cache has already, which are in it no more."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vrtool.atomic import remove_abandoned
from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.ancestor_patches import find_patches
from vrtool.dataset.cache import Cache, CachedTrack, is_cache, read_manifest, write_manifest
from vrtool.dataset.folders import printable_name
from vrtool.dataset.header import TrackHeader, check_same_stft
from vrtool.dataset.library import find_pairs, find_tracks
from vrtool.dataset.rows import Precision
from vrtool.dataset.split import validation_names
from vrtool.dataset.track import KINDS, Discovery, Kind, Problem, Track
from vrtool.errors import CacheError, InputError
from vrtool.locking import exclusive_lock
from vrtool.preparation.identity import finished_header
from vrtool.preparation.material import is_patch, stored_roles
from vrtool.preparation.task import TrackTask

MAX_NAME_BYTES = 60
"""How much of a track's name its file bears: with the hash far below the 255 bytes that file systems allow."""
LOCK_NAME = ".manifest.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A folder and what it holds: audio of one kind, or the ancestor's patches of any ("npz")."""

    kind: Kind | Literal["npz"]
    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationSettings:
    """What to make of the libraries; `validation` is a fraction or a file of track names (see `validation_names`)."""

    output: Path
    stft: StftSpec
    precision: Precision = "int16"
    validation: str = "0.1"
    minimum_seconds: float = 1.0
    align_pairs: bool = True
    prune: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationPlan:
    """Tracks still to prepare, tracks the cache has already, those it should have no more, and what is of no use.

    `finished` holds every file in the cache that is up to date, or whose library is not among those given this time;
    `removed` those whose library was given, but has them no more: they stay unless the settings say `prune`.
    """

    settings: PreparationSettings
    roots: tuple[Path, ...]
    tasks: tuple[TrackTask, ...]
    finished: Mapping[Path, TrackHeader]
    removed: Mapping[Path, TrackHeader]
    problems: tuple[Problem, ...]

    def cache(self, prepared: Mapping[Path, TrackHeader]) -> Cache:
        """Return the cache as it stands when `prepared` has been added to what was finished before."""
        kept = {} if self.settings.prune else self.removed
        headers = {
            path: header
            for path, header in sorted({**kept, **self.finished, **prepared}.items())
            if path.is_file()  # another preparation may have pruned it in the meantime
        }
        validation = validation_names(
            {(header.kind, header.name) for header in headers.values()},
            self.settings.validation,
            expected={(task.track.kind, task.track.name) for task in self.tasks},
        )
        tracks = tuple(
            CachedTrack(
                path=path,
                header=header,
                split="validation" if (header.kind, header.name) in validation else "training",
            )
            for path, header in headers.items()
        )
        settings = self.settings
        return Cache(
            path=settings.output,
            stft=settings.stft,
            precision=settings.precision,
            validation=settings.validation,
            tracks=tracks,
        )


def plan_preparation(libraries: Sequence[Library], settings: PreparationSettings) -> PreparationPlan:
    """Find the libraries' tracks and compare them with what the cache holds; writes nothing.

    Raises InputError if there is nothing to prepare or the output is a folder of something else, CacheError if it is a
    cache of another STFT or precision.
    """
    if not libraries:
        raise InputError("no library was given; pass --instrumentals, --vocals, --pairs or --npz with a folder")
    _check_output(settings)
    # Absolute, so that a library is the same one from whichever folder it is given; links stay what they are called.
    libraries = [
        replace(library, root=Path(os.path.abspath(library.root)))  # noqa: PTH100  # resolve() follows links
        for library in libraries
    ]
    discoveries = [_discover(library) for library in libraries]
    tasks = {
        task.destination: task
        for library, discovery in zip(libraries, discoveries, strict=True)
        for task in (_task(track, library.root, settings) for track in discovery.tracks)
    }
    problems = tuple(problem for discovery in discoveries for problem in discovery.problems)
    done = {path: header for path, task in tasks.items() if (header := finished_header(task)) is not None}
    others = {path: header for path, header in _listed(settings.output).items() if path not in tasks}
    removed = {path for path, header in others.items() if _is_removed(header, libraries, problems)}
    plan = PreparationPlan(
        settings=settings,
        roots=tuple(library.root for library in libraries),
        tasks=tuple(task for path, task in sorted(tasks.items()) if path not in done),
        finished=done | {path: header for path, header in others.items() if path not in removed},
        removed={path: header for path, header in others.items() if path in removed},
        problems=problems,
    )
    plan.cache({})  # a wrong --validation shall be told now, not after a day of work
    return plan


def start_cache(plan: PreparationPlan) -> None:
    """Make the cache's folder with a first manifest, so that its settings are fixed before its first track."""
    output = plan.settings.output
    output.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(output / LOCK_NAME):
        # Once more, as another preparation may have begun the cache in the meantime.
        _check_output(plan.settings)
        if not _listed(output):
            write_manifest(plan.cache({}))
    remove_partial_files(output)


def finish_cache(plan: PreparationPlan, prepared: Mapping[Path, TrackHeader]) -> Cache:
    """Write the manifest and return the cache: what this plan made of it, and what others did at the same time."""
    output = plan.settings.output
    with exclusive_lock(output / LOCK_NAME):
        # Once more: until a cache has tracks, another preparation may give it other settings.
        _check_output(plan.settings)
        if plan.settings.prune:
            for path in plan.removed:
                path.unlink(missing_ok=True)
        tasks = {task.destination: task for task in plan.tasks}
        others = {
            path: header
            for path, header in _listed(output).items()
            if path not in plan.removed and (path not in tasks or _is_finished(tasks[path]))
        }
        cache = plan.cache({**others, **prepared})
        write_manifest(cache)
        return cache


def remove_partial_files(output: Path) -> None:
    """Delete what earlier runs left half-written when they were killed."""
    for folder in (output, *(output / kind for kind in KINDS)):
        remove_abandoned(folder)


def _discover(library: Library) -> Discovery:
    if library.kind == "npz":
        return find_patches(library.root)
    return find_pairs(library.root) if library.kind == "pair" else find_tracks(library.root, library.kind)


def _task(track: Track, root: Path, settings: PreparationSettings) -> TrackTask:
    return TrackTask(
        track=track,
        library=printable_name(root.name),
        destination=_destination(settings.output, track),
        stft=settings.stft,
        precision=settings.precision,
        minimum_seconds=settings.minimum_seconds,
        align_pairs=settings.align_pairs,
    )


def _listed(output: Path) -> dict[Path, TrackHeader]:
    """Return the tracks that the cache's manifest lists and that are there."""
    tracks = read_manifest(output).tracks if is_cache(output) else ()
    return {track.path: track.header for track in tracks if track.path.is_file()}


def _is_finished(task: TrackTask) -> bool:
    try:
        return finished_header(task) is not None
    except OSError:  # a source is gone
        return False


def _is_removed(header: TrackHeader, libraries: Collection[Library], problems: Collection[Problem]) -> bool:
    """Tell whether a track that was not found was once found in one of the libraries, all of which can be read."""
    sources = [Path(source.path) for source in header.sources]
    kind = "npz" if is_patch(sources[0]) else header.kind
    roots = [library.root for library in libraries if library.kind == kind]
    unread = [Path(problem.path) for problem in problems]
    is_hidden = any(source.is_relative_to(path) and _may_be_there(source) for source in sources for path in unread)
    return not is_hidden and any(source.is_relative_to(root) for source in sources for root in roots)


def _may_be_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # nobody may look, or the disk is away
        return True
    return True


def _check_output(settings: PreparationSettings) -> None:
    output = settings.output
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: expected a folder for the cache, found a file")
    if is_cache(output):
        cache = read_manifest(output)
        if cache.tracks:
            check_same_stft(cache.stft, settings.stft, origin=str(output), wanted_by="this run asks for")
        if cache.tracks and cache.precision != settings.precision:
            raise CacheError(
                f"{output} was made with precision {cache.precision}, this run asks for {settings.precision}; "
                f"prepare another cache, or pass --precision {cache.precision}"
            )
    # Folders of tracks alone are a cache whose manifest was deleted, as the message about a damaged one advises.
    elif output.is_dir() and any(not (entry.name.startswith(".") or entry.name in KINDS) for entry in output.iterdir()):
        raise InputError(f"{output}: expected a cache or an empty folder, found other files; choose another --output")


def _destination(output: Path, track: Track) -> Path:
    """Return the track's file: a readable name and, to be unique, a hash of where its sources lie."""
    sources = "\0".join(
        f"{role} {source.gain:+g} {source.path}" for role in stored_roles(track) for source in track.sources[role]
    )
    digest = hashlib.sha256(sources.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    readable = re.sub(r"[^\w.-]+", "_", track.name).encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip("._")
    return output / track.kind / f"{readable or 'track'}-{digest}.h5"
