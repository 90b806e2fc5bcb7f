"""What an evaluation found: scores per song, their mean and median, and the same as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vrtool.dataset.library import Problem

System = Literal["estimate", "mixture", "ideal_mask"]
"""What is scored: the stems in question, the mixture taken for either stem, and the stems of the ideal ratio mask."""

SYSTEMS: tuple[System, ...] = ("estimate", "mixture", "ideal_mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class StemScores:
    """nSDR of both stems in dB; inf for a perfect one, None where there is none to tell.

    There is none where the true stem is silent, or the estimate is missing (then a problem of the evaluation says so).
    """

    vocals: float | None
    instrumental: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SongScores:
    """The scores of one song, with the trivial estimate and the ideal one beside the estimate."""

    name: str
    duration_seconds: float
    estimate: StemScores
    mixture: StemScores
    ideal_mask: StemScores


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Every song's scores, and whatever could not be scored."""

    songs: tuple[SongScores, ...]
    problems: tuple[Problem, ...]

    def mean(self, system: System) -> StemScores:
        """Return the mean over the songs that have a score; inf if any is, None if none has."""
        return self._aggregate(system, statistics.fmean)

    def median(self, system: System) -> StemScores:
        """Return the median over the songs that have a score; None if none has."""
        return self._aggregate(system, statistics.median)

    @property
    def num_silent(self) -> int:
        """How many true stems are silent: they have no score and count in no mean."""
        return sum(score is None for song in self.songs for score in (song.mixture.vocals, song.mixture.instrumental))

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as values of strict JSON.

        Scores are in dB. A missing one is null; a perfect one, for which JSON has no number, is the string "Infinity",
        which Python's float() and JavaScript's Number() read.
        """
        return {
            "metric": "nsdr_db",
            "songs": [
                {
                    "name": song.name,
                    "duration_seconds": song.duration_seconds,
                    **{system: _scores_to_json(getattr(song, system)) for system in SYSTEMS},
                }
                for song in self.songs
            ],
            "mean": {system: _scores_to_json(self.mean(system)) for system in SYSTEMS},
            "median": {system: _scores_to_json(self.median(system)) for system in SYSTEMS},
            "num_silent_references": self.num_silent,
            "problems": [{"path": problem.path, "reason": problem.reason} for problem in self.problems],
        }

    def _aggregate(self, system: System, average: Callable[[Sequence[float]], float]) -> StemScores:
        scores: list[StemScores] = [getattr(song, system) for song in self.songs]
        vocals = [score.vocals for score in scores if score.vocals is not None]
        instrumental = [score.instrumental for score in scores if score.instrumental is not None]
        return StemScores(
            vocals=average(vocals) if vocals else None,
            instrumental=average(instrumental) if instrumental else None,
        )


def _scores_to_json(scores: StemScores) -> dict[str, float | str | None]:
    return {"vocals": _score_to_json(scores.vocals), "instrumental": _score_to_json(scores.instrumental)}


def _score_to_json(score: float | None) -> float | str | None:
    return "Infinity" if score == math.inf else score
