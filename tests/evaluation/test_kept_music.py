"""Bass and drop-outs of signals whose losses are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vrtool.audio.waveform import FloatArray
from vrtool.evaluation.kept_music import Dropouts, bass_kept_db, find_dropouts

RATE = 8000


def tone(frequency_hz: float, level: float, seconds: float = 4.0) -> FloatArray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)[None]


BASS, TREBLE = tone(60, 0.3), tone(1000, 0.2)
MUSIC = np.repeat(BASS + TREBLE, 2, axis=0)


@pytest.mark.parametrize(("gain", "expected"), [(1.0, 0.0), (0.5, -6.0206), (2.0, 6.0206)])
def test_bass_kept_is_the_level_of_what_is_below_150_hz(gain: float, expected: float) -> None:
    estimate = np.repeat(np.float32(gain) * BASS + TREBLE, 2, axis=0)
    assert bass_kept_db(MUSIC, estimate, RATE) == pytest.approx(expected, abs=0.01)


def test_what_happens_above_150_hz_does_not_count_as_bass() -> None:
    estimate = np.repeat(BASS + tone(200, 0.3), 2, axis=0)
    assert bass_kept_db(MUSIC, estimate, RATE) == pytest.approx(0.0, abs=0.02)


def test_channels_count_by_their_energy() -> None:
    estimate = np.concatenate([MUSIC[:1], np.zeros_like(MUSIC[:1])])
    assert bass_kept_db(MUSIC, estimate, RATE) == pytest.approx(-3.0103, abs=1e-3)


def test_every_moment_of_the_song_counts_alike() -> None:
    estimate = MUSIC.copy()
    estimate[:, : RATE * 2] = 0
    assert bass_kept_db(MUSIC, estimate, RATE) == pytest.approx(-3.0103, abs=0.02)


def test_no_bass_left_is_minus_infinity() -> None:
    assert bass_kept_db(MUSIC, np.zeros_like(MUSIC), RATE) == -math.inf


def test_music_without_bass_has_none_to_keep() -> None:
    assert bass_kept_db(tone(2000, 0.2), tone(60, 0.2), RATE) is None
    assert bass_kept_db(np.zeros_like(MUSIC), MUSIC, RATE) is None


def with_gap(start_seconds: float, seconds: float, gain_db: float) -> FloatArray:
    estimate = MUSIC.copy()
    gap = slice(round(start_seconds * RATE), round((start_seconds + seconds) * RATE))
    estimate[:, gap] *= np.float32(10 ** (gain_db / 20))
    return estimate


def dropouts(truth: FloatArray, estimate: FloatArray) -> Dropouts:
    found = find_dropouts(truth, estimate, RATE)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("seconds", "gain_db", "count"), [(0.1, -11.0, 1), (0.08, -40.0, 0), (1.0, -9.0, 0), (1.0, -80.0, 1)]
)
def test_a_dropout_is_long_and_deep(seconds: float, gain_db: float, count: int) -> None:
    found = dropouts(MUSIC, with_gap(1.0, seconds, gain_db))
    assert found.count == count
    assert found.seconds == pytest.approx(count * seconds)


def test_dropouts_are_counted_apart() -> None:
    estimate = with_gap(0.0, 0.2, -60)
    estimate[:, 2 * RATE : round(2.3 * RATE)] = 0
    found = dropouts(MUSIC, estimate)
    assert found.count == 2
    assert found.seconds == pytest.approx(0.5)


def test_where_the_music_itself_is_hardly_heard_nothing_drops_out() -> None:
    quiet = MUSIC.copy()
    quiet[:, RATE : 2 * RATE] *= np.float32(10 ** (-35 / 20))
    estimate = quiet.copy()
    estimate[:, RATE : 2 * RATE] = 0
    assert find_dropouts(quiet, estimate, RATE) == Dropouts(count=0, seconds=0.0)


def test_a_song_at_the_same_level_has_no_dropouts_and_a_silent_one_cannot_have_any() -> None:
    assert find_dropouts(MUSIC, MUSIC, RATE) == Dropouts(count=0, seconds=0.0)
    assert find_dropouts(np.zeros_like(MUSIC), MUSIC, RATE) is None


def test_less_audio_than_a_window_is_no_dropout() -> None:
    assert find_dropouts(MUSIC[:, :10], MUSIC[:, :10], RATE) is None
