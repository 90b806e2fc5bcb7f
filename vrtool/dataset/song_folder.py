"""A song's folder: which of its files is the mixture, the instrumental, the vocals, or how they follow from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vrtool.dataset.folders import Folder, comparable_name
from vrtool.dataset.track import Problem, Role, Source

# File names without suffix, in any case, and what they are. MUSDB's stems are parts of the instrumental.
PART_NAMES: Mapping[str, str] = {
    "mixture": "mixture",
    "instrumental": "instrumental",
    "accompaniment": "instrumental",
    "vocals": "vocals",
    "drums": "drums",
    "bass": "bass",
    "other": "other",
}
STEMS = ("drums", "bass", "other")

EXPECTED = (
    "mixture.* with instrumental.*, accompaniment.*, vocals.* or all of drums.*, bass.* and other.*; or vocals.* "
    "with instrumental.* or with all of drums.*, bass.* and other.*"
)

Sources = dict[Role, tuple[Source, ...]]


def is_song_folder(folder: Folder) -> bool:
    """Return whether at least one file in the folder itself has a name that says what it is."""
    return any(_part(path) is not None for path in folder.files)


def song_sources(folder: Folder) -> Sources | Problem:
    """Return the sources of a song's mixture, instrumental and vocals, or why they cannot be told."""
    found: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in folder.files:
        part = _part(path)
        if part is None:
            others.append(path)
        else:
            found.setdefault(part, []).append(path)
    for part, paths in found.items():
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            return Problem(path=str(folder.path), reason=f"expected one {part}, found {names}; keep one of them")
    parts: dict[str, tuple[Source, ...]] = {part: (Source(path=paths[0]),) for part, paths in found.items()}
    return _sources(folder, parts, others)


def subtracted(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    """Return the same sources with their gains negated."""
    return tuple(replace(source, gain=-source.gain) for source in sources)


def _part(path: Path) -> str | None:
    return PART_NAMES.get(comparable_name(path.stem))


def _sources(folder: Folder, parts: dict[str, tuple[Source, ...]], others: list[Path]) -> Sources | Problem:
    """Derive the three roles from what there is: a file of its own first, then a sum, then a difference."""
    mixture, instrumental, vocals = (parts.get(part) for part in ("mixture", "instrumental", "vocals"))
    if instrumental is None and not others and all(stem in parts for stem in STEMS):
        instrumental = tuple(source for stem in STEMS for source in parts[stem])
    if instrumental is None and mixture is not None and vocals is not None:
        instrumental = mixture + subtracted(vocals)
    if instrumental is None or (mixture is None and vocals is None):
        return Problem(path=str(folder.path), reason=_insufficient(folder, others))
    if mixture is None and vocals is not None:
        mixture = instrumental + vocals
    assert mixture is not None
    if vocals is None:
        vocals = mixture + subtracted(instrumental)
    return {"mixture": mixture, "instrumental": instrumental, "vocals": vocals}


def _insufficient(folder: Folder, others: list[Path]) -> str:
    names = ", ".join(path.name for path in folder.files)
    # A guitar.wav beside drums, bass and other would be missing from their sum.
    hint = f" (and no {others[0].name}, which may belong to the instrumental or not)" if others else ""
    return f"expected {EXPECTED}{hint}; found only {names}"
