"""What a library holds: tracks, the files behind each of their signals, and what could not be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["instrumental", "vocal", "pair"]
KINDS: tuple[Kind, ...] = ("instrumental", "vocal", "pair")
Role = Literal["mixture", "instrumental", "vocals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that is part of a signal, and the linear gain it has in it: -1 where it is subtracted.

    `stream` counts the audio streams of a container that holds several, from 0.
    """

    path: Path
    gain: float = 1.0
    stream: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A piece of music: its signals by role, each the gain-weighted sum of its sources.

    An instrumental track has the role "instrumental" only, a vocal track "vocals" only, a pair all three. The
    name is a path relative to the library, with slashes and without suffix, in Unicode's composed form (NFC).
    """

    name: str
    kind: Kind
    sources: dict[Role, tuple[Source, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file or folder that could not be used, and why: what was expected and what was found."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What a library holds: its tracks in the order of their names, and what could not be used."""

    tracks: list[Track]
    problems: list[Problem]
