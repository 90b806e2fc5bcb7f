from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.preparation import Library, PreparationPlan, PreparationSettings, plan_preparation, prepare
from vrtool.preparation.estimate import estimate


@pytest.fixture
def plan(small_library: Path, tmp_path: Path, tiny_stft: StftSpec) -> PreparationPlan:
    settings = PreparationSettings(output=tmp_path / "new/cache", stft=tiny_stft, minimum_seconds=0.5)
    libraries = [
        Library(kind="instrumental", root=small_library / "instrumentals"),
        Library(kind="vocal", root=small_library / "vocals"),
        Library(kind="pair", root=small_library / "pairs"),
    ]
    return plan_preparation(libraries, settings)


def test_tracks_time_and_bytes_are_those_of_the_preparation(plan: PreparationPlan) -> None:
    expected = estimate(plan, num_jobs=2)
    with ThreadPoolExecutor(1) as executor:
        cache = prepare(plan, executor).cache
    found_bytes = sum(track.path.stat().st_size for track in cache.tracks)
    assert expected.num_tracks == len(cache.tracks)
    assert expected.duration_seconds == pytest.approx(sum(track.header.duration_seconds for track in cache.tracks))
    assert expected.cache_bytes < found_bytes < expected.cache_bytes + 50_000 * len(cache.tracks)
    assert expected.unknown_lengths == 0


def test_nothing_is_written_where_the_cache_shall_be(plan: PreparationPlan, tmp_path: Path) -> None:
    estimate(plan, num_jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_time_is_shared_among_the_jobs(plan: PreparationPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrtool.preparation.estimate._seconds_per_second", lambda _: 0.5)
    one, four = (estimate(plan, num_jobs=jobs) for jobs in (1, 4))
    assert one.preparation_seconds == pytest.approx(0.5 * one.duration_seconds)
    assert four.preparation_seconds == pytest.approx(one.preparation_seconds / 4)


def test_broken_tracks_are_counted_but_foretell_nothing(
    tmp_path: Path,
    tiny_stft: StftSpec,
    make_signal: Callable[..., FloatArray],
    write_sound: Callable[..., Path],
) -> None:
    write_sound(tmp_path / "vocals/silent.wav", make_signal(0) * 0)
    (tmp_path / "vocals/broken.wav").write_bytes(b"no audio")
    settings = PreparationSettings(output=tmp_path / "cache", stft=tiny_stft)
    expected = estimate(plan_preparation([Library(kind="vocal", root=tmp_path / "vocals")], settings), num_jobs=1)
    assert (expected.num_tracks, expected.unknown_lengths) == (2, 1)
    assert expected.preparation_seconds == 0.0


def test_nothing_is_left_to_do_after_a_preparation(plan: PreparationPlan, small_library: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        prepare(plan, executor)
    again = plan_preparation([Library(kind="vocal", root=small_library / "vocals")], plan.settings)
    expected = estimate(again, num_jobs=1)
    assert (expected.num_tracks, expected.cache_bytes, expected.preparation_seconds) == (0, 0, 0.0)
    assert expected.free_bytes > 0
