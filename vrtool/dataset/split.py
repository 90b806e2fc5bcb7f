"""Which tracks are kept for validation: decided by name alone, so that a growing library moves no track across."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Collection
from pathlib import Path

from vrtool.dataset.track import KINDS, Kind
from vrtool.errors import InputError

HASH_RANGE = 2**64


TrackName = tuple[Kind, str]


def validation_names(
    tracks: Collection[TrackName], rule: str, *, expected: Collection[TrackName] = ()
) -> frozenset[TrackName]:
    """Return which of the tracks, by (kind, name), `rule` keeps for validation.

    The rule is a fraction from 0 to below 1, or the path of a text file with one track name a line. A fraction takes
    the tracks whose name's hash falls below it; unless it is 0, at least one track of a kind that has two or more, and
    never all of a kind. Raises InputError if the rule is neither, or if a line of the file names neither one of the
    tracks nor one of those that are `expected` and may yet come.
    """
    try:
        fraction = float(rule)
    except ValueError:
        return _listed(tracks, Path(rule), {*tracks, *expected})
    if not 0.0 <= fraction < 1.0:
        raise InputError(f"--validation must be a fraction from 0 to below 1 or a file of track names, found {rule}")
    return _hashed(tracks, fraction)


def _hashed(tracks: Collection[TrackName], fraction: float) -> frozenset[TrackName]:
    chosen: set[TrackName] = set()
    for kind in KINDS:
        ranked = sorted((_hash(name), name) for kind_, name in set(tracks) if kind_ == kind)
        below = [name for position, name in ranked if position < fraction * HASH_RANGE]
        if fraction > 0.0 and len(ranked) >= 2:
            below = below or [ranked[0][1]]
        below = below[: max(0, len(ranked) - 1)]
        chosen.update((kind, name) for name in below)
    return frozenset(chosen)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(_normal(name).encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _normal(name: str) -> str:
    """Return the name in one of the ways that Unicode can spell it: file systems differ."""
    return unicodedata.normalize("NFC", name)


def _listed(tracks: Collection[TrackName], path: Path, known: Collection[TrackName]) -> frozenset[TrackName]:
    if not path.is_file():
        raise InputError(f"--validation must be a fraction from 0 to below 1 or a file of track names, found {path}")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected track names in UTF-8, found other bytes ({error})") from error
    names = {_normal(name).strip() for _, name in known}
    wanted = {_normal(line).strip() for line in lines} - {""}
    # A comment, unless a track is called so.
    unknown = {line for line in wanted - names if not line.startswith("#")}
    if unknown:
        raise InputError(
            f"{path} names {len(unknown)} tracks that no library has, the first being {min(unknown)!r}; "
            "expected one track a line, as vrtool inspect-dataset --tracks lists them"
        )
    return frozenset((kind, name) for kind, name in tracks if _normal(name).strip() in wanted)
