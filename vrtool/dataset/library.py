"""Find the tracks of a library: a folder of instrumentals, of vocals, or of pairs. Nothing is decoded here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from vrtool.dataset.folders import Folder, comparable_name, first_names, printable_name, scan_library
from vrtool.dataset.matching import INSTRUMENT_FOLDERS, MIXTURE_FOLDERS, match_by_name
from vrtool.dataset.song_folder import EXPECTED, is_song_folder, song_sources, subtracted
from vrtool.dataset.stem_file import stem_file_name, stem_sources, take_stem_files
from vrtool.dataset.track import Discovery, Kind, Problem, Role, Source, Track

__all__ = ["Discovery", "Kind", "Problem", "Role", "Source", "Track", "find_pairs", "find_tracks"]


def find_tracks(root: Path, kind: Literal["instrumental", "vocal"]) -> Discovery:
    """Return a track for every audio file in a folder and below it.

    Raises InputError unless `root` is a folder with at least one audio file in it.
    """
    folder, problems = scan_library(root)
    role: Role = "instrumental" if kind == "instrumental" else "vocals"
    files = list(folder.all_files())
    uses = Counter(_name(path.with_suffix(""), root) for path in files)
    tracks = []
    for path in files:
        name = _name(path.with_suffix(""), root)
        # song.wav and song.flac are two tracks, so that they need two names.
        unique = name if uses[name] == 1 else _name(path, root)
        tracks.append(Track(name=unique, kind=kind, sources={role: (Source(path=path),)}))
    return Discovery(tracks=_sorted(tracks), problems=problems)


def find_pairs(root: Path) -> Discovery:
    """Return the pairs of a library, and all audio in it that belongs to none.

    At any depth, `root` itself included, a pair is a song's folder (see `song_folder`), a file in `mixtures` with
    the file of the same name in `instruments` beside it (see `matching`), or a file that holds a song's stems as
    streams (see `stem_file`). Raises InputError unless `root` is a folder with at least one audio file in it.
    """
    whole, problems = scan_library(root)
    stem_files, folder = take_stem_files(whole)
    tracks = [
        Track(name=_name(stem_file_name(path), root), kind="pair", sources=stem_sources(path)) for path in stem_files
    ]
    _collect_pairs(folder, root, tracks, problems)
    return Discovery(tracks=_sorted(tracks), problems=problems)


def _collect_pairs(folder: Folder, root: Path, tracks: list[Track], problems: list[Problem]) -> None:
    """Append the pairs of a folder and of those below it."""
    if is_song_folder(folder):
        sources = song_sources(folder)
        if isinstance(sources, Problem):
            problems.append(sources)
        else:
            tracks.append(Track(name=_name(folder.path, root), kind="pair", sources=sources))
    elif folder.files:
        problems.append(_unknown_files(folder))
    mixtures = _only(folder, MIXTURE_FOLDERS)
    instruments = _only(folder, INSTRUMENT_FOLDERS)
    if mixtures is not None and instruments is not None:
        pairs, unmatched = match_by_name(mixtures, instruments)
        problems += unmatched
        tracks += [_matched_track(mixture, instrumental, mixtures, root) for mixture, instrumental in pairs]
    for below in folder.folders:
        if mixtures is None or instruments is None or below not in (mixtures, instruments):
            _collect_pairs(below, root, tracks, problems)


def _only(folder: Folder, names: frozenset[str]) -> Folder | None:
    """Return the subfolder that has one of the names, if it is the only one."""
    found = [below for below in folder.folders if comparable_name(below.path.name) in names]
    return found[0] if len(found) == 1 else None


def _matched_track(mixture: Path, instrumental: Path, mixtures: Folder, root: Path) -> Track:
    # train/mixtures/album/song.wav is the pair train/album/song.
    beside = mixtures.path.parent / mixture.relative_to(mixtures.path).with_suffix("")
    mixture_sources = (Source(path=mixture),)
    instrumental_sources = (Source(path=instrumental),)
    sources: dict[Role, tuple[Source, ...]] = {
        "mixture": mixture_sources,
        "instrumental": instrumental_sources,
        "vocals": mixture_sources + subtracted(instrumental_sources),
    }
    return Track(name=_name(beside, root), kind="pair", sources=sources)


def _unknown_files(folder: Folder) -> Problem:
    return Problem(
        path=str(folder.path),
        reason=f"expected a song's folder ({EXPECTED}), or folders mixtures and instruments with files of the same "
        f"names; found {len(folder.files)} audio files of other names ({first_names(folder.files)})",
    )


def _name(path: Path, root: Path) -> str:
    # A library that is itself one song's folder has nothing below it to be named after.
    relative = path.relative_to(root).as_posix() if path != root else path.resolve().name
    return printable_name(relative)


def _sorted(tracks: list[Track]) -> list[Track]:
    return sorted(tracks, key=lambda track: track.name)
