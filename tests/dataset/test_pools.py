from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.dataset.cache import Cache, CachedTrack
from vrtool.dataset.pools import FAINT_VOCALS_DB, Pool, make_pools
from vrtool.errors import RecipeError


class Dice:
    """A generator whose next number is known."""

    def __init__(self, number: float) -> None:
        self._number = number

    def random(self) -> float:
        return self._number


def pool_of(track: CachedTrack, weights: list[float]) -> tuple[Pool, list[str]]:
    """Return a pool of copies of a vocal track, one a library with a weight each, and the libraries' names."""
    tracks = [
        replace(track, header=replace(track.header, library=str(number)), path=track.path.with_name(f"{number}.h5"))
        for number in range(len(weights))
    ]
    names = [item.library for item in tracks]
    return make_pools(tracks, dict(zip(names, weights, strict=True))).vocals, names


@pytest.fixture(scope="module")
def voice(small_cache: Cache) -> CachedTrack:
    return next(track for track in small_cache.tracks if track.header.kind == "vocal")


class TestChoosing:
    @settings(max_examples=200, deadline=None)
    @given(
        weights=st.lists(st.just(0.0) | st.floats(1e-6, 1e6), min_size=1, max_size=8).filter(any),
        number=st.floats(0.0, 1.0, exclude_max=True) | st.just(math.nextafter(1.0, 0.0)),
    )
    def test_each_track_has_a_share_as_wide_as_its_weight(
        self, voice: CachedTrack, weights: list[float], number: float
    ) -> None:
        pool, names = pool_of(voice, weights)
        chosen = names.index(pool.choose(cast(Any, Dice(number))).library)
        assert weights[chosen] > 0.0
        begin, end = sum(weights[:chosen]), sum(weights[: chosen + 1])
        drawn, slack = number * sum(weights), 1e-12 * sum(weights)
        assert begin - slack <= drawn <= end + slack

    def test_frequencies_follow_weights(self, voice: CachedTrack) -> None:
        weights = [1.0, 0.0, 3.0, 0.5, 5.5]
        pool, names = pool_of(voice, weights)
        rng = np.random.default_rng(0)
        drawn = [pool.choose(rng).library for _ in range(10_000)]
        for name, weight in zip(names, weights, strict=True):
            share = weight / 10.0
            # Four standard deviations.
            assert drawn.count(name) / 10_000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 10_000))

    def test_tracks_share_no_weight_with_those_of_their_library(self, voice: CachedTrack) -> None:
        # A weight is each track's own: a library of three is drawn three times as often as a library of one.
        tracks = [replace(voice, header=replace(voice.header, library=name)) for name in ("a", "a", "a", "b")]
        pool = make_pools(tracks, {"vocal/a": 2.0, "vocal/b": 2.0}).vocals
        assert pool.cumulative_weights == (2.0, 4.0, 6.0, 8.0)


class TestPools:
    def test_every_track_is_in_the_pool_of_its_kind(self, small_cache: Cache) -> None:
        pools = make_pools(small_cache.tracks, {})
        for kind, pool in (("instrumental", pools.instrumentals), ("vocal", pools.vocals), ("pair", pools.pairs)):
            assert pool.tracks == tuple(track for track in small_cache.tracks if track.header.kind == kind)
        assert pools.singing_pairs.tracks == pools.pairs.tracks
        assert pools.num_starts == 5

    def test_a_pair_whose_halves_hardly_differ_does_not_sing(self, small_cache: Cache) -> None:
        pair = next(track for track in small_cache.tracks if track.header.kind == "pair")
        statistics = pair.header.statistics
        for above_db, sings in ((-0.1, False), (0.1, True)):
            level_db = statistics["mixture"].level_db + FAINT_VOCALS_DB + above_db
            changed = {**statistics, "vocals": replace(statistics["vocals"], level_db=level_db)}
            pools = make_pools([replace(pair, header=replace(pair.header, statistics=changed))], {})
            assert (len(pools.pairs), len(pools.singing_pairs)) == (1, int(sings))

    def test_a_library_of_weight_0_is_in_no_pool(self, small_cache: Cache) -> None:
        pools = make_pools(small_cache.tracks, {"pair/pairs": 0.0})
        assert (len(pools.pairs), len(pools.singing_pairs), len(pools.vocals)) == (0, 0, 3)
        assert pools.num_starts == 3

    @pytest.mark.parametrize(("weights", "expected"), [
        ({}, True),
        ({"pair/pairs": 0.0}, True),
        ({"vocal/vocals": 0.0}, True),
        ({"pair/pairs": 0.0, "vocal/vocals": 0.0}, False),
        ({"pair/pairs": 0.0, "instrumental/instrumentals": 0.0}, False),
    ])  # fmt: skip
    def test_what_is_left_out_is_missing(self, small_cache: Cache, weights: dict[str, float], expected: bool) -> None:
        assert make_pools(small_cache.tracks, weights).can_make_examples is expected

    @pytest.mark.parametrize("name", ["vocal/choirs", "vocals", "instrumental/vocals", "Vocal/vocals", ""])
    def test_a_library_that_no_track_is_of_is_refused_naming_those_there_are(
        self, small_cache: Cache, name: str
    ) -> None:
        message = rf"library_weights names '{name}', .*known are instrumental/instrumentals, pair/pairs, vocal/vocals$"
        with pytest.raises(RecipeError, match=message):
            make_pools(small_cache.tracks, {name: 1.0})
