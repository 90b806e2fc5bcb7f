"""Whether one system is better than another, or was only lucky: a sign test over songs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vrtool.dataset.track import Kind
from vrtool.evaluation.metrics import STEMS, Measure, Stem, measures_of
from vrtool.evaluation.results import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class SignTest:
    """On how many songs the estimate was better or worse than the one it is held against, or alike.

    `p_value` is the probability of a split as uneven as this one, or more so, if both were equally good.
    """

    kind: Kind
    stem: Stem
    measure: Measure
    num_better: int
    num_worse: int
    num_ties: int
    p_value: float


def compare(evaluation: Evaluation) -> tuple[SignTest, ...]:
    """Return a sign test of each measure of each stem, for each kind of song; none unless two systems were scored.

    Songs count that both have a score of.
    """
    if "against" not in evaluation.names:
        return ()
    return tuple(
        _sign_test(evaluation, kind, stem, measure)
        for kind in evaluation.kinds
        for stem in STEMS
        for measure in measures_of(evaluation.metrics, kind, stem)
    )


def sign_test_p_value(num_better: int, num_worse: int) -> float:
    """Return the exact two-sided p-value of the sign test, ties having been dropped: in (0, 1].

    Twice the probability of at most as many as the rarer outcome among n = better + worse fair coins, the sum of
    binomial coefficients up to it over 2^n, but never above 1 (Dixon and Mood, "The statistical sign test", 1946).
    """
    num_songs = num_better + num_worse
    rarer = min(num_better, num_worse)
    num_ways = 2 * sum(math.comb(num_songs, count) for count in range(rarer + 1))
    return min(1.0, num_ways / (1 << num_songs))


def _sign_test(evaluation: Evaluation, kind: Kind, stem: Stem, measure: Measure) -> SignTest:
    differences = []
    for song in evaluation.songs_of(kind):
        ours, theirs = (song.score(system, stem, measure.key) for system in ("estimate", "against"))
        if ours is not None and theirs is not None:
            badness, their_badness = measure.badness(ours), measure.badness(theirs)
            differences.append((badness > their_badness) - (badness < their_badness))
    num_better, num_worse, num_ties = (differences.count(sign) for sign in (-1, 1, 0))
    return SignTest(
        kind=kind,
        stem=stem,
        measure=measure,
        num_better=num_better,
        num_worse=num_worse,
        num_ties=num_ties,
        p_value=sign_test_p_value(num_better, num_worse),
    )
