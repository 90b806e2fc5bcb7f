from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.rows import Precision
from vrtool.preparation import Library, PreparationPlan, PreparationSettings, plan_preparation, prepare
from vrtool.preparation.estimate import estimate

Make = Callable[..., FloatArray]
Write = Callable[..., Path]


@pytest.fixture
def plan(small_library: Path, tmp_path: Path, tiny_stft: StftSpec) -> PreparationPlan:
    settings = PreparationSettings(output=tmp_path / "new/cache", stft=tiny_stft, minimum_seconds=0.5)
    libraries = [
        Library(kind="instrumental", root=small_library / "instrumentals"),
        Library(kind="vocal", root=small_library / "vocals"),
        Library(kind="pair", root=small_library / "pairs"),
    ]
    return plan_preparation(libraries, settings)


def test_tracks_and_time_are_those_of_the_preparation(plan: PreparationPlan, tiny_stft: StftSpec) -> None:
    expected = estimate(plan, num_jobs=2)
    with ThreadPoolExecutor(1) as executor:
        cache = prepare(plan, executor).cache
    assert expected.num_tracks == len(cache.tracks) == 8
    seconds = sum(track.header.num_frames for track in cache.tracks) * tiny_stft.hop_length / tiny_stft.sample_rate
    assert expected.duration_seconds == pytest.approx(seconds)
    assert expected.preparation_seconds > 0.0
    assert expected.unknown_lengths == 0


@pytest.fixture
def songs(tmp_path: Path, make_signal: Make, write_sound: Write) -> list[Library]:
    """Libraries of every kind: stereo and mono, of other rates, lossy, and in patches."""
    for path, num_channels, sample_rate in (
        ("vocals/stereo.flac", 2, 44100),
        ("vocals/mono.wav", 1, 22050),
        ("vocals/lossy.mp3", 2, 48000),
    ):
        samples = make_signal(0, seconds=7.0, num_channels=num_channels, sample_rate=sample_rate)
        write_sound(tmp_path / path, samples, sample_rate)
    instrumental = make_signal(1, seconds=8.0, sample_rate=44100)
    voice = make_signal(2, seconds=8.0, sample_rate=44100, level=0.05)
    write_sound(tmp_path / "pairs/late/mixture.wav", instrumental + voice, 44100)
    write_sound(tmp_path / "pairs/late/instrumental.wav", np.pad(instrumental, ((0, 0), (3000, 0))), 44100)
    write_sound(tmp_path / "pairs/split/vocals.flac", voice[:1], 44100)
    for name in ("drums", "bass", "other"):
        write_sound(tmp_path / f"pairs/split/{name}.flac", instrumental, 44100)
    (tmp_path / "npz").mkdir()
    for number in range(3):
        x = np.full((2, 1025, 128), 1.0 + number, np.complex64)
        np.savez(tmp_path / f"npz/song_p{number}.npz", X=x, Y=x, c=np.float32(10.0))
    return [
        Library(kind="vocal", root=tmp_path / "vocals"),
        Library(kind="pair", root=tmp_path / "pairs"),
        Library(kind="npz", root=tmp_path / "npz"),
    ]


@pytest.mark.parametrize("precision", ["int16", "float32"])
def test_bytes_are_foretold_to_within_a_few_percent(songs: list[Library], tmp_path: Path, precision: Precision) -> None:
    settings = PreparationSettings(output=tmp_path / "cache", stft=StftSpec(), precision=precision)
    for library in songs:
        plan = plan_preparation([library], replace(settings, output=tmp_path / f"cache {library.kind}"))
        expected = estimate(plan, num_jobs=1)
        with ThreadPoolExecutor(1) as executor:
            report = prepare(plan, executor)
        assert report.problems == ()
        assert len(report.cache.tracks) == len(plan.tasks) == expected.num_tracks
        found_bytes = sum(track.path.stat().st_size for track in report.cache.tracks)
        assert found_bytes == pytest.approx(expected.cache_bytes, rel=0.03), library.kind


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
    make_signal: Make,
    write_sound: Write,
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
