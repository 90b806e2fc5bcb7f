"""A file that holds a song and its stems as audio streams, as MUSDB18 comes: SONG.stem.mp4."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vrtool.dataset.folders import Folder, comparable_name
from vrtool.dataset.track import Role, Source

STEM_SUFFIX = ".stem.mp4"

# The order of MUSDB18 (Rafii et al., "The MUSDB18 corpus for music separation", 2017).
STREAMS: dict[Role, tuple[int, ...]] = {
    "mixture": (0,),
    "instrumental": (1, 2, 3),  # drums, bass and other
    "vocals": (4,),
}


def take_stem_files(folder: Folder) -> tuple[list[Path], Folder]:
    """Return a folder's stem files, at any depth, and the folder without them."""
    taken = [path for path in folder.files if _is_stem_file(path)]
    below = []
    for subfolder in folder.folders:
        paths, rest = take_stem_files(subfolder)
        taken += paths
        below.append(rest)
    files = tuple(path for path in folder.files if not _is_stem_file(path))
    return taken, replace(folder, files=files, folders=tuple(below))


def stem_file_name(path: Path) -> Path:
    """Return the path of a stem file without what stands for its kind."""
    return path.with_name(path.name[: -len(STEM_SUFFIX)])


def stem_sources(path: Path) -> dict[Role, tuple[Source, ...]]:
    """Return the sources of a song's three signals in its stem file."""
    return {role: tuple(Source(path=path, stream=stream) for stream in streams) for role, streams in STREAMS.items()}


def _is_stem_file(path: Path) -> bool:
    return comparable_name(path.name).endswith(STEM_SUFFIX) and len(path.name) > len(STEM_SUFFIX)
