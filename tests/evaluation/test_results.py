import json
import math

import pytest

from vrtool.dataset.library import Problem
from vrtool.evaluation.results import Evaluation, SongScores, StemScores


def song(name: str, vocals: float | None, instrumental: float | None) -> SongScores:
    silent = StemScores(vocals=None if vocals is None else 0.0, instrumental=0.0)
    return SongScores(
        name=name,
        duration_seconds=1.5,
        estimate=StemScores(vocals=vocals, instrumental=instrumental),
        mixture=silent,
        ideal_mask=silent,
    )


def test_mean_and_median_are_those_of_the_songs() -> None:
    evaluation = Evaluation(songs=(song("a", 1.0, 4.0), song("b", 2.0, 5.0), song("c", 9.0, 9.0)), problems=())
    assert evaluation.mean("estimate") == StemScores(vocals=4.0, instrumental=6.0)
    assert evaluation.median("estimate") == StemScores(vocals=2.0, instrumental=5.0)


def test_a_song_without_a_score_counts_in_no_mean_and_is_counted() -> None:
    evaluation = Evaluation(songs=(song("a", 1.0, 4.0), song("b", None, 6.0)), problems=())
    assert evaluation.mean("estimate") == StemScores(vocals=1.0, instrumental=5.0)
    assert evaluation.num_silent == 1


def test_where_no_song_has_a_score_there_is_no_mean() -> None:
    evaluation = Evaluation(songs=(song("a", None, 4.0),), problems=())
    assert evaluation.mean("estimate").vocals is None
    assert evaluation.median("estimate").vocals is None


def test_json_is_strict_even_of_perfect_and_missing_scores() -> None:
    problem = Problem(path="b", reason="broken")
    evaluation = Evaluation(songs=(song("a", math.inf, None), song("b", 1.25, 2.0)), problems=(problem,))
    values = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert values["songs"][0]["estimate"] == {"vocals": "Infinity", "instrumental": None}
    assert values["songs"][1]["estimate"] == {"vocals": 1.25, "instrumental": 2.0}
    assert float(values["mean"]["estimate"]["vocals"]) == math.inf
    assert values["median"]["estimate"]["instrumental"] == pytest.approx(2.0)
    assert values["problems"] == [{"path": "b", "reason": "broken"}]
