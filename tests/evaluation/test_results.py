from __future__ import annotations

import csv
import io
import json
import math

import pytest

from vrtool.dataset.track import Kind, Problem
from vrtool.evaluation.export import to_csv, to_json
from vrtool.evaluation.results import Evaluation, SongScores


def song(name: str, vocals: float | None, instrumental: float | None, kind: Kind = "pair") -> SongScores:
    return SongScores(
        name=name,
        kind=kind,
        duration_seconds=1.5,
        scores={"estimate": {"vocals": {"nsdr_db": vocals}, "instrumental": {"nsdr_db": instrumental}}},
        silent_stems=("vocals",) if vocals is None else (),
    )


def evaluation(*songs: SongScores, problems: tuple[Problem, ...] = ()) -> Evaluation:
    return Evaluation(metrics=("nsdr",), names={"estimate": "a, b"}, songs=songs, problems=problems)


def test_mean_and_median_are_those_of_the_songs() -> None:
    found = evaluation(song("a", 1.0, 4.0), song("b", 2.0, 5.0), song("c", 9.0, 9.0))
    assert found.mean("pair", "estimate", "vocals", "nsdr_db") == 4.0
    assert found.mean("pair", "estimate", "instrumental", "nsdr_db") == 6.0
    assert found.median("pair", "estimate", "vocals", "nsdr_db") == 2.0


def test_a_song_without_a_score_counts_in_no_mean_and_is_counted() -> None:
    found = evaluation(song("a", 1.0, 4.0), song("b", None, 6.0))
    assert found.mean("pair", "estimate", "vocals", "nsdr_db") == 1.0
    assert found.num_silent == 1


def test_where_no_song_has_a_score_there_is_no_mean() -> None:
    found = evaluation(song("a", None, 4.0))
    assert found.mean("pair", "estimate", "vocals", "nsdr_db") is None
    assert found.median("pair", "estimate", "vocals", "nsdr_db") is None


def test_infinities_of_both_signs_have_no_mean() -> None:
    found = evaluation(song("a", math.inf, 1.0), song("b", -math.inf, 1.0))
    assert found.mean("pair", "estimate", "vocals", "nsdr_db") is None


def test_json_is_strict_even_of_perfect_and_missing_scores() -> None:
    problem = Problem(path="b", reason="broken")
    found = evaluation(song("a", math.inf, None), song("b", -math.inf, 2.0), problems=(problem,))
    values = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert values["systems"] == {"estimate": "a, b"}
    assert values["songs"][0]["kind"] == "pair"
    assert values["songs"][0]["estimate"] == {"vocals": {"nsdr_db": "Infinity"}, "instrumental": {"nsdr_db": None}}
    assert values["songs"][1]["estimate"]["vocals"] == {"nsdr_db": "-Infinity"}
    assert values["kinds"]["pair"]["num_songs"] == 2
    assert values["kinds"]["pair"]["median"]["estimate"]["instrumental"]["nsdr_db"] == pytest.approx(2.0)
    assert values["kinds"]["pair"]["mean"]["estimate"]["vocals"]["nsdr_db"] is None
    assert values["sign_tests"] == []
    assert values["problems"] == [{"path": "b", "reason": "broken"}]


def test_csv_has_a_line_for_each_song_system_and_stem() -> None:
    text = to_csv(evaluation(song('the "one", live', 1.25, None), song("b", math.inf, -2.0)))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["song"] for row in rows] == ['the "one", live', 'the "one", live', "b", "b"]
    assert [row["nsdr_db"] for row in rows] == ["1.25", "", "inf", "-2.0"]
    assert rows[0] | {"nsdr_db": ""} == {
        "song": 'the "one", live',
        "kind": "pair",
        "duration_seconds": "1.5",
        "system": "a, b",
        "stem": "vocals",
        "nsdr_db": "",
    }
