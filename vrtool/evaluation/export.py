"""An evaluation for other programs: as values of JSON, and as a table of comma-separated values."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from typing import Any

from vrtool.dataset.track import Kind
from vrtool.evaluation.comparison import SignTest, compare
from vrtool.evaluation.metrics import MEASURES, STEMS_OF, measures_of
from vrtool.evaluation.results import Evaluation, SongScores, System

Score = float | str | None
Average = Callable[[Kind, System, Any, str], float | None]


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the evaluation as values of strict JSON.

    Scores are in the unit that their key ends in. A missing one is null; an infinite one, for which JSON has no number,
    is the string "Infinity" or "-Infinity", which Python's float() and JavaScript's Number() read.
    """
    return {
        "metrics": list(evaluation.metrics),
        "systems": dict(evaluation.names),
        "songs": [_song(song) for song in evaluation.songs],
        "kinds": {
            kind: {
                "num_songs": len(evaluation.songs_of(kind)),
                "mean": _averages(evaluation, kind, evaluation.mean),
                "median": _averages(evaluation, kind, evaluation.median),
            }
            for kind in evaluation.kinds
        },
        "sign_tests": [_sign_test(test) for test in compare(evaluation)],
        "num_silent_references": evaluation.num_silent,
        "problems": [{"path": problem.path, "reason": problem.reason} for problem in evaluation.problems],
    }


def to_csv(evaluation: Evaluation) -> str:
    """Return a line for each song, system and stem, with a column for each measure.

    An empty field is a score that there is none of; infinite ones are inf and -inf.
    """
    keys = [measure.key for measure in MEASURES if measure.metric in evaluation.metrics]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["song", "kind", "duration_seconds", "system", "stem", *keys])
    for song in evaluation.songs:
        about = [song.name, song.kind, song.duration_seconds]
        for system, stems in song.scores.items():
            for stem in stems:
                scores = (song.score(system, stem, key) for key in keys)
                row = [*about, evaluation.names.get(system, system), stem]
                writer.writerow([*row, *("" if score is None else score for score in scores)])
    return text.getvalue()


def _song(song: SongScores) -> dict[str, Any]:
    scores: dict[str, Any] = {
        system: {stem: {key: _score(value) for key, value in of_stem.items()} for stem, of_stem in stems.items()}
        for system, stems in song.scores.items()
    }
    return {"name": song.name, "kind": song.kind, "duration_seconds": song.duration_seconds, **scores}


def _averages(evaluation: Evaluation, kind: Kind, average: Average) -> dict[str, Any]:
    systems = dict.fromkeys(system for song in evaluation.songs_of(kind) for system in song.scores)
    return {
        system: {
            stem: {
                measure.key: _score(average(kind, system, stem, measure.key))
                for measure in measures_of(evaluation.metrics, kind, stem)
            }
            for stem in STEMS_OF[kind]
        }
        for system in systems
    }


def _sign_test(test: SignTest) -> dict[str, Any]:
    return {
        "kind": test.kind,
        "stem": test.stem,
        "measure": test.measure.key,
        "estimate_better": test.num_better,
        "against_better": test.num_worse,
        "ties": test.num_ties,
        "p_value": test.p_value,
    }


def _score(score: float | None) -> Score:
    if score is None or math.isfinite(score):
        return score
    return "Infinity" if score > 0 else "-Infinity"
