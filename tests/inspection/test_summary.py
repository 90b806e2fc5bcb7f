from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vrtool.dataset.cache import Cache
from vrtool.inspection import summarise


def test_the_pools_add_up_to_the_whole(small_cache: Cache) -> None:
    summary = summarise(small_cache)
    assert [(pool.kind, pool.split, pool.num_tracks) for pool in summary.pools] == [
        ("instrumental", "training", 3),
        ("vocal", "training", 3),
        ("pair", "training", 2),
    ]
    assert summary.num_tracks == 8
    assert summary.duration_seconds == pytest.approx(3.0 + 2.5 + 0.6 + 2.0 + 3.0 + 0.7 + 2.5 + 2.0)
    assert summary.duration_seconds == pytest.approx(sum(pool.duration_seconds for pool in summary.pools))
    assert summary.num_bytes == sum(track.path.stat().st_size for track in small_cache.tracks)
    assert (summary.path, summary.stft, summary.validation) == (str(small_cache.path), small_cache.stft, "0")


def test_validation_tracks_are_a_pool_of_their_own(small_cache: Cache) -> None:
    first, *rest = small_cache.tracks
    cache = replace(small_cache, tracks=(replace(first, split="validation"), *rest))
    counts = {(pool.kind, pool.split): pool.num_tracks for pool in summarise(cache).pools}
    assert counts[first.header.kind, "validation"] == 1
    assert counts[first.header.kind, "training"] == 2


def test_peaks_and_levels_are_those_of_the_tracks(small_cache: Cache) -> None:
    pair = next(pool for pool in summarise(small_cache).pools if pool.kind == "pair")
    statistics = [track.header.statistics["mixture"] for track in small_cache.pool("pair", "training")]
    assert pair.largest_peak == max(entry.peak for entry in statistics)
    assert pair.median_peak == np.median([entry.peak for entry in statistics])
    assert pair.median_level_db == np.median([entry.level_db for entry in statistics])


def test_shares_are_of_the_time_not_of_the_tracks(small_cache: Cache) -> None:
    shares = (1.0, 0.0, 0.0)
    tracks = tuple(
        replace(
            track,
            header=replace(
                track.header,
                statistics={
                    "vocals": replace(track.header.statistics["vocals"], silence_share=share, clipping_share=share / 2)
                },
            ),
        )
        for track, share in zip(small_cache.pool("vocal", "training"), shares, strict=True)
    )
    (pool,) = summarise(replace(small_cache, tracks=tracks)).pools
    expected = tracks[0].header.duration_seconds / pool.duration_seconds
    assert pool.silence_share == pytest.approx(expected)
    assert pool.clipping_share == pytest.approx(expected / 2)


def test_sources_are_counted_by_rate_and_channels(small_cache: Cache) -> None:
    vocals = next(pool for pool in summarise(small_cache).pools if pool.kind == "vocal")
    assert vocals.source_sample_rates == {8000: 3}
    assert vocals.source_channels == {1: 1, 2: 2}
