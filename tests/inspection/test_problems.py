from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vrtool.dataset.cache import Cache, CachedTrack
from vrtool.dataset.track import Role
from vrtool.inspection import find_problems


def pick(cache: Cache, kind: str, name: str) -> CachedTrack:
    return next(track for track in cache.tracks if (track.header.kind, track.header.name) == (kind, name))


def measured(track: CachedTrack, role: Role, **changes: Any) -> CachedTrack:
    statistics = {**track.header.statistics, role: replace(track.header.statistics[role], **changes)}
    return replace(track, header=replace(track.header, statistics=statistics))


def reasons(cache: Cache, *tracks: CachedTrack) -> list[tuple[str, str]]:
    return [(problem.path, problem.reason) for problem in find_problems(replace(cache, tracks=tracks))]


def test_a_sound_library_has_no_problems(small_cache: Cache) -> None:
    assert find_problems(small_cache) == ()


@pytest.mark.parametrize(("role", "change", "reason"), [
    ("mixture", {"clipping_share": 0.002}, "0.20% of its samples are at full scale"),
    ("mixture", {"silence_share": 0.75}, "75% of it is silent"),
    ("vocals", {"level_db": -60.0}, "its halves hardly differ"),
    ("vocals", {"level_db": 0.0}, "its halves differ by more than its mixture"),
])  # fmt: skip
def test_what_is_suspicious_about_a_pair_is_named(
    small_cache: Cache, role: Role, change: dict[str, float], reason: str
) -> None:
    track = measured(pick(small_cache, "pair", "stereo"), role, **change)
    ((path, found),) = reasons(small_cache, track)
    assert path == "pair/stereo"
    assert found.startswith(reason)


def test_a_source_of_a_low_rate_is_named_with_what_it_lacks(small_cache: Cache) -> None:
    track = pick(small_cache, "vocal", "stereo")
    source = replace(track.header.sources[0], sample_rate=3000)
    low = replace(track, header=replace(track.header, sources=(source,)))
    assert reasons(small_cache, low) == [("vocal/stereo", "its source has 3000 Hz: nothing above 1500 Hz")]


def test_the_same_file_in_two_places_is_named_once(small_cache: Cache) -> None:
    # Both files of the pairs are the same, and still they are one problem.
    track = pick(small_cache, "pair", "stereo")
    copy = replace(track, path=track.path.with_name("copy.h5"), header=replace(track.header, name="copy"))
    assert len({source.sha256 for source in track.header.sources}) == 2
    assert reasons(small_cache, track, copy) == [
        ("pair/copy", "has a source file identical to one of pair/stereo"),
    ]


def test_the_same_file_in_training_and_validation_is_named_as_a_leak(small_cache: Cache) -> None:
    track = pick(small_cache, "vocal", "stereo")
    copy = replace(
        track, path=track.path.with_name("copy.h5"), header=replace(track.header, name="copy"), split="validation"
    )
    assert reasons(small_cache, track, copy) == [
        (
            "vocal/copy",
            "has a source file identical to one of vocal/stereo; one is for training, the other for validation",
        ),
    ]
