"""The spectrogram cache: a folder with one file per track (see `track_file`) and a manifest that lists them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vrtool.atomic import atomic_path
from vrtool.audio.spectrogram import ComplexArray, StftSpec
from vrtool.dataset.header import FORMAT_VERSION, TrackHeader, check_version, header_from_json, parse_json
from vrtool.dataset.rows import Precision, RowArray, decode_rows
from vrtool.dataset.track import Kind, Role
from vrtool.dataset.track_file import find_damage, read_crop
from vrtool.errors import CacheError, InputError

Split = Literal["training", "validation"]

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedTrack:
    """A track of a cache: its file, its header and the half of the data set it belongs to."""

    path: Path
    header: TrackHeader
    split: Split

    @property
    def key(self) -> str:
        """The track's unique name within its cache, stable between runs: kind and file name."""
        return f"{self.header.kind}/{self.path.stem}"

    @property
    def library(self) -> str:
        """The library it comes from, as recipes name it: kind and folder name."""
        return f"{self.header.kind}/{self.header.library}"

    def read(self, role: Role, start_frame: int, num_frames: int) -> RowArray:
        """Return the rows (frame, channel) of a crop: a read-only view of the mapped file, no copy."""
        return read_crop(self.path, self.header, role, start_frame, num_frames)

    def read_complex(self, role: Role, start_frame: int, num_frames: int) -> ComplexArray:
        """Return a crop's spectrogram as complex64 (channel, bin, frame)."""
        return decode_rows(self.read(role, start_frame, num_frames))

    def verify(self) -> str | None:
        """Return what is wrong with the track's file, or None if its bytes are those that were written."""
        return find_damage(self.path, self.header)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A prepared data set: what all its tracks share, and the tracks."""

    path: Path
    stft: StftSpec
    precision: Precision
    validation: str
    tracks: tuple[CachedTrack, ...]

    def pool(self, kind: Kind, split: Split) -> tuple[CachedTrack, ...]:
        """Return the tracks of one kind in one half of the data set, in a stable order."""
        return tuple(track for track in self.tracks if track.header.kind == kind and track.split == split)


def open_cache(path: Path) -> Cache:
    """Return the cache in a folder, as its manifest describes it.

    Raises CacheError if the folder is not a cache, has no tracks, or lacks a track or a part of one that is in the
    manifest.
    """
    cache = read_manifest(path)
    if not cache.tracks:
        raise CacheError(f"{path}: expected a cache with tracks, found none prepared yet; run vrtool prepare")
    for track in cache.tracks:
        if not track.path.is_file():
            raise CacheError(f"{track.path} is in the manifest but not on disk; run vrtool prepare again")
        found, expected = track.path.stat().st_size, track.header.end_bytes
        if found < expected:
            raise CacheError(
                f"{track.path}: expected at least {expected:,} bytes, found {found:,}; "
                "the file was cut short, delete it and run vrtool prepare again"
            )
    return cache


def is_cache(path: Path) -> bool:
    """Tell whether a folder has a manifest."""
    return (path / MANIFEST_NAME).is_file()


def read_manifest(path: Path) -> Cache:
    """Return the cache that a folder's manifest describes, without a look at its tracks; raises CacheError."""
    if not is_cache(path):
        raise CacheError(f"{path}: expected a cache with a {MANIFEST_NAME}, found none; make one with vrtool prepare")
    origin = str(path / MANIFEST_NAME)
    values = parse_json((path / MANIFEST_NAME).read_text(encoding="utf-8", errors="replace"), origin=origin)
    check_version(values, origin=origin)
    try:
        tracks = tuple(
            CachedTrack(
                path=path / entry["path"],
                split=entry["split"],
                header=header_from_json(entry["header"], origin=origin),
            )
            for entry in values["tracks"]
        )
        return Cache(
            path=path,
            stft=StftSpec(**values["stft"]),
            precision=values["precision"],
            validation=values["validation"],
            tracks=tracks,
        )
    except CacheError:
        raise
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise CacheError(f"{origin}: it lacks or misspells {error}; delete it and run vrtool prepare again") from error


def write_manifest(cache: Cache) -> None:
    """Write a cache's manifest, atomically."""
    values = {
        "format_version": FORMAT_VERSION,
        "stft": {name: getattr(cache.stft, name) for name in ("sample_rate", "n_fft", "hop_length")},
        "precision": cache.precision,
        "validation": cache.validation,
        "tracks": [
            {
                "path": track.path.relative_to(cache.path).as_posix(),
                "split": track.split,
                "header": track.header.to_json(),
            }
            for track in cache.tracks
        ],
    }
    path = cache.path / MANIFEST_NAME
    with atomic_path(path) as partial:
        # In ASCII, as a path may hold bytes that are no character in any encoding.
        partial.write_text(json.dumps(values, indent=1), encoding="ascii")
