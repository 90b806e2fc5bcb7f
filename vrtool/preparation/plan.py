"""What a preparation will do: the tracks it found, which of them the cache has already, what it will cost."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vrtool.atomic import PARTIAL_MARK
from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.cache import (
    Cache,
    CachedTrack,
    is_cache,
    read_manifest,
    write_manifest,
)
from vrtool.dataset.header import TrackHeader, check_same_stft
from vrtool.dataset.library import Discovery, Kind, Problem, Track, find_pairs, find_tracks
from vrtool.dataset.split import validation_names
from vrtool.dataset.track_file import read_header
from vrtool.errors import CacheError, InputError
from vrtool.preparation.track import TrackTask, identify, stored_roles

KINDS: tuple[Kind, ...] = ("instrumental", "vocal", "pair")
MAX_NAME_BYTES = 60
"""How much of a track's name its file bears: with the hash far below the 255 bytes that file systems allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A folder of audio and what it holds."""

    kind: Kind
    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationSettings:
    """What to make of the libraries; `validation` is a fraction or a file of track names (see `validation_names`)."""

    output: Path
    stft: StftSpec
    validation: str = "0.1"
    minimum_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationPlan:
    """Tracks still to prepare, tracks the cache has already, and what discovery could not use.

    `finished` holds every file in the cache that is up to date, or whose library is not among those given this time.
    """

    settings: PreparationSettings
    tasks: tuple[TrackTask, ...]
    finished: Mapping[Path, TrackHeader]
    problems: tuple[Problem, ...]

    def cache(self, prepared: Mapping[Path, TrackHeader]) -> Cache:
        """Return the cache as it stands when `prepared` has been added to what was finished before."""
        headers = dict(sorted({**self.finished, **prepared}.items()))
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
        return Cache(path=settings.output, stft=settings.stft, validation=settings.validation, tracks=tracks)


def plan_preparation(libraries: Sequence[Library], settings: PreparationSettings) -> PreparationPlan:
    """Find the libraries' tracks and compare them with what the cache holds; writes nothing.

    Raises InputError if there is nothing to prepare or the output is a folder of something else, CacheError if it is a
    cache of another STFT.
    """
    if not libraries:
        raise InputError("no library was given; pass --instrumentals, --vocals or --pairs with a folder of audio")
    _check_output(settings)
    discoveries = [_discover(library) for library in libraries]
    destinations = {
        _destination(settings.output, track): track for discovery in discoveries for track in discovery.tracks
    }
    headers = {
        destination: _unchanged_header(destination, track, settings.stft) for destination, track in destinations.items()
    }
    kept = {
        track.path: track.header
        for track in (read_manifest(settings.output).tracks if is_cache(settings.output) else ())
        if track.path not in destinations and track.path.is_file()
    }
    plan = PreparationPlan(
        settings=settings,
        tasks=tuple(
            TrackTask(track=track, destination=path, stft=settings.stft, minimum_seconds=settings.minimum_seconds)
            for path, track in sorted(destinations.items())
            if headers[path] is None
        ),
        finished=kept | {path: header for path, header in headers.items() if header is not None},
        problems=tuple(problem for discovery in discoveries for problem in discovery.problems),
    )
    plan.cache({})  # a wrong --validation shall be told now, not after a day of work
    return plan


def _discover(library: Library) -> Discovery:
    # Absolute, so that a library is the same one from whichever folder it is given; links stay what they are called.
    root = Path(os.path.abspath(library.root))  # noqa: PTH100  # resolve() follows links
    return find_pairs(root) if library.kind == "pair" else find_tracks(root, library.kind)


def _check_output(settings: PreparationSettings) -> None:
    output = settings.output
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: expected a folder for the cache, found a file")
    if is_cache(output):
        cache = read_manifest(output)
        if cache.tracks:
            check_same_stft(cache.stft, settings.stft, origin=str(output), wanted_by="this run asks for")
    # Folders of tracks alone are a cache whose manifest was deleted, as the message about a damaged one advises.
    elif output.is_dir() and any(not (entry.name.startswith(".") or entry.name in KINDS) for entry in output.iterdir()):
        raise InputError(f"{output}: expected a cache or an empty folder, found other files; choose another --output")


def start_cache(plan: PreparationPlan) -> None:
    """Make the cache's folder with a first manifest, so that its settings are fixed before its first track."""
    output = plan.settings.output
    output.mkdir(parents=True, exist_ok=True)
    if not is_cache(output) or not read_manifest(output).tracks:
        write_manifest(plan.cache({}))
    remove_partial_files(output)


def remove_partial_files(output: Path) -> None:
    """Delete what an earlier run left half-written when it was killed."""
    for kind in KINDS:
        for partial in (output / kind).glob(f".*{PARTIAL_MARK}*"):
            partial.unlink(missing_ok=True)


def _destination(output: Path, track: Track) -> Path:
    """Return the track's file: a readable name and, to be unique, a hash of where its sources lie."""
    sources = "\0".join(
        f"{role} {source.gain:+g} {source.path}" for role in stored_roles(track) for source in track.sources[role]
    )
    digest = hashlib.sha256(sources.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    readable = re.sub(r"[^\w.-]+", "_", track.name).encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip("._")
    return output / track.kind / f"{readable or 'track'}-{digest}.h5"


def _unchanged_header(destination: Path, track: Track, stft: StftSpec) -> TrackHeader | None:
    """Return the header of the file that already holds this track as its sources are now, or None."""
    if not destination.is_file():
        return None
    try:
        header = read_header(destination)
    except CacheError:
        return None
    if header.stft != stft:
        return None
    known = {(source.role, source.path, source.gain): source for source in header.sources}
    current = [(role, source) for role in stored_roles(track) for source in track.sources[role]]
    if len(known) != len(current):
        return None
    for role, source in current:
        before = known.get((role, str(source.path), source.gain))
        if before is None:
            return None
        status = source.path.stat()
        if (status.st_size, status.st_mtime_ns) == (before.size_bytes, before.modified_ns):
            continue
        # A copied or touched file has another time but is the same; only the content decides.
        if status.st_size != before.size_bytes or identify(source, role).sha256 != before.sha256:
            return None
    return header
