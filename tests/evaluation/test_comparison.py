"""Sign tests: counts by hand, p-values of scipy's binomial test."""

from __future__ import annotations

import math

import pytest
import scipy.stats

from vrtool.evaluation.comparison import SignTest, compare, sign_test_p_value
from vrtool.evaluation.metrics import METRICS, MetricName
from vrtool.evaluation.results import Evaluation, SongScores


@pytest.mark.parametrize(("num_better", "num_worse"), [(0, 0), (1, 0), (5, 0), (5, 5), (9, 1), (12, 3), (60, 40)])
def test_the_p_value_is_that_of_an_exact_two_sided_binomial_test(num_better: int, num_worse: int) -> None:
    num_songs = num_better + num_worse
    expected = scipy.stats.binomtest(num_better, num_songs).pvalue if num_songs else 1.0
    assert sign_test_p_value(num_better, num_worse) == pytest.approx(expected, rel=1e-12)
    assert sign_test_p_value(num_worse, num_better) == sign_test_p_value(num_better, num_worse)


def test_hand_computed_p_values() -> None:
    assert sign_test_p_value(5, 0) == 2 / 32
    assert sign_test_p_value(5, 1) == 2 * (1 + 6) / 64
    assert sign_test_p_value(5000, 5000) == 1.0


def song(key: str, ours: float | None, theirs: float | None) -> SongScores:
    return SongScores(
        name="song",
        kind="pair",
        duration_seconds=1.0,
        scores={"estimate": {"instrumental": {key: ours}}, "against": {"instrumental": {key: theirs}}},
    )


def only_test(metric: MetricName, key: str, *pairs: tuple[float | None, float | None]) -> SignTest:
    evaluation = Evaluation(
        metrics=(metric,),
        names={"estimate": "a", "against": "b"},
        songs=tuple(song(key, *scores) for scores in pairs),
        problems=(),
    )
    (found,) = (test for test in compare(evaluation) if test.stem == "instrumental" and test.measure.key == key)
    return found


def test_songs_without_either_score_do_not_count_and_ties_are_dropped() -> None:
    found = only_test(
        "nsdr", "nsdr_db", (1.0, 0.0), (2.0, 3.0), (5.0, 4.0), (1.0, 1.0), (math.inf, math.inf), (None, 1.0)
    )
    assert (found.num_better, found.num_worse, found.num_ties) == (2, 1, 2)
    assert found.p_value == 1.0


def test_fewer_dropouts_are_better() -> None:
    found = only_test("dropouts", "dropouts", (1, 0), (0, 4), (0, 0))
    assert (found.num_better, found.num_worse, found.num_ties) == (1, 1, 1)


def test_bass_nearest_to_what_it_should_be_is_better() -> None:
    found = only_test("bass", "bass_kept_db", (-1.0, 2.0), (-3.0, 0.5), (0.1, -0.2))
    assert (found.num_better, found.num_worse) == (2, 1)


def test_one_system_alone_is_compared_with_nothing() -> None:
    evaluation = Evaluation(metrics=METRICS, names={"estimate": "a"}, songs=(song("nsdr_db", 1.0, 2.0),), problems=())
    assert compare(evaluation) == ()
