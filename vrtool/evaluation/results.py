"""What an evaluation found: scores per song, and their mean and median per kind of song."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vrtool.dataset.track import KINDS, Kind, Problem
from vrtool.evaluation.judge import StemScores
from vrtool.evaluation.metrics import MetricName, Stem

System = Literal["estimate", "against", "mixture", "ideal_mask"]
"""What is scored: the stems in question, others beside them, the mixture as either stem, the ideal ratio mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SongScores:
    """The scores of one song by system and stem.

    Mixture and ideal mask are there for pairs only: without vocals, or with nothing else, both are perfect.
    `silent_stems` are true stems that should be heard and are not; they have no score.
    """

    name: str
    kind: Kind
    duration_seconds: float
    scores: dict[System, dict[Stem, StemScores]]
    silent_stems: tuple[Stem, ...] = ()

    def score(self, system: System, stem: Stem, key: str) -> float | None:
        """Return one number, None where there is none."""
        return self.scores.get(system, {}).get(stem, {}).get(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Every song's scores, what was measured and of whom, and whatever could not be scored."""

    metrics: tuple[MetricName, ...]
    names: dict[System, str] = field(default_factory=dict)
    songs: tuple[SongScores, ...]
    problems: tuple[Problem, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of songs there are, pairs first."""
        found = {song.kind for song in self.songs}
        return tuple(kind for kind in sorted(KINDS, key=lambda kind: kind != "pair") if kind in found)

    def songs_of(self, kind: Kind) -> tuple[SongScores, ...]:
        """Return the songs of a kind."""
        return tuple(song for song in self.songs if song.kind == kind)

    def mean(self, kind: Kind, system: System, stem: Stem, key: str) -> float | None:
        """Return the mean over the songs that have a score; infinite if one is, None if none has one."""
        return self._aggregate(kind, system, stem, key, _mean)

    def median(self, kind: Kind, system: System, stem: Stem, key: str) -> float | None:
        """Return the median over the songs that have a score, None if none has one."""
        return self._aggregate(kind, system, stem, key, statistics.median)

    @property
    def num_silent(self) -> int:
        """How many true stems are silent: they have no score and count in no mean."""
        return sum(len(song.silent_stems) for song in self.songs)

    def _aggregate(
        self, kind: Kind, system: System, stem: Stem, key: str, average: Callable[[Sequence[float]], float]
    ) -> float | None:
        scores = [song.score(system, stem, key) for song in self.songs_of(kind)]
        known = [score for score in scores if score is not None]
        # Infinities of both signs have neither mean nor, side by side, a median.
        found = average(known) if known else math.nan
        return None if math.isnan(found) else found


def _mean(values: Sequence[float]) -> float:
    # statistics.fmean raises where this is not a number.
    return sum(values) / len(values)
