"""Pairs whose second file was delayed, cut, amplified or inverted: what is cached fits, to the sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.audio.waveform import FloatArray, Waveform, resample
from vrtool.dataset.cache import CachedTrack
from vrtool.dataset.library import find_pairs
from vrtool.errors import AudioError
from vrtool.preparation.task import TrackTask
from vrtool.preparation.track import prepare_track

Make = Callable[..., FloatArray]
Write = Callable[..., Path]
Prepare = Callable[..., CachedTrack]

SECONDS = 10.0


@pytest.fixture
def prepare_pair(tmp_path: Path, task_for: Callable[..., TrackTask], write_sound: Write) -> Prepare:
    """`prepare_pair(mixture=samples, ...)` writes a song's folder and prepares it, keeping every bit."""

    def prepare(*, align_pairs: bool = True, sample_rate: int = 8000, **signals: FloatArray) -> CachedTrack:
        for name, samples in signals.items():
            write_sound(tmp_path / f"pairs/song/{name}.wav", samples, sample_rate)
        (track,) = find_pairs(tmp_path / "pairs").tracks
        task = task_for(track, precision="float32", align_pairs=align_pairs)
        return CachedTrack(path=task.destination, header=prepare_track(task), split="training")

    return prepare


@pytest.fixture
def instrumental(make_signal: Make) -> FloatArray:
    return make_signal(3, seconds=SECONDS)


@pytest.fixture
def vocals(make_signal: Make) -> FloatArray:
    return make_signal(4, seconds=SECONDS, level=0.05)


def moved(samples: FloatArray, offset: int) -> FloatArray:
    """What begins `offset` samples later: with silence before it, or without its beginning."""
    return np.pad(samples, ((0, 0), (offset, 0))) if offset >= 0 else samples[:, -offset:]


def error_db(track: CachedTrack, expected: dict[str, FloatArray], spec: StftSpec) -> dict[str, float]:
    """How far below the expected signals what is wrong in the cached ones lies."""
    mixture, instrumental = (track.read_complex(role, 0, track.header.num_frames) for role in track.header.storage)
    found = {"mixture": mixture, "instrumental": instrumental, "vocals": mixture - instrumental}
    errors = {}
    for role, samples in expected.items():
        truth = stft(samples, spec)
        assert truth.shape == found[role].shape
        noise = np.sum(np.abs(found[role] - truth) ** 2) / np.sum(np.abs(truth) ** 2)
        errors[role] = float(10 * np.log10(noise + 1e-20))
    return errors


@pytest.mark.parametrize("part", ["instrumental", "vocals"])
@pytest.mark.parametrize(("delay", "gain"), [(0, 1.0), (1105, 1.0), (-333, 1.0), (0, 0.5), (-1, -1.0), (1105, -1.7)])
def test_the_part_is_moved_and_amplified_to_fit_its_mixture(
    prepare_pair: Prepare,
    instrumental: FloatArray,
    vocals: FloatArray,
    tiny_stft: StftSpec,
    part: str,
    delay: int,
    gain: float,
) -> None:
    signals = {"mixture": instrumental + vocals, "instrumental": instrumental, "vocals": vocals}
    track = prepare_pair(mixture=signals["mixture"], **{part: np.float32(gain) * moved(signals[part], delay)})
    alignment = track.header.alignment
    assert alignment is not None
    assert alignment.offset_samples == -delay
    assert alignment.gain == pytest.approx(1 / gain, rel=0.006)
    assert alignment.confidence > 0.6
    assert track.header.num_samples == 80_000 - max(0, -delay)
    there = {role: samples[:, max(0, -delay) :] for role, samples in signals.items()}
    errors = error_db(track, there, tiny_stft)
    assert errors.pop("mixture") < -130
    # Where no gain has to be measured, nothing is wrong but what float32 rounds away.
    assert all(error < (-100 if gain == 1.0 else -42) for error in errors.values()), errors


def test_a_mixture_that_begins_earlier_is_cut_where_its_part_begins(
    prepare_pair: Prepare, instrumental: FloatArray, vocals: FloatArray, tiny_stft: StftSpec
) -> None:
    track = prepare_pair(mixture=instrumental + vocals, instrumental=instrumental[:, 2000:-3000])
    assert track.header.num_samples == 75_000
    there = {"mixture": (instrumental + vocals)[:, 2000:-3000], "vocals": vocals[:, 2000:-3000]}
    assert max(error_db(track, there, tiny_stft).values()) < -100


def test_a_delay_counts_at_the_rate_of_the_cache(
    prepare_pair: Prepare, instrumental: FloatArray, vocals: FloatArray, tiny_stft: StftSpec
) -> None:
    def faster(samples: FloatArray) -> FloatArray:
        return resample(Waveform(samples=samples, sample_rate=8000), 16000).samples

    track = prepare_pair(
        mixture=faster(instrumental + vocals), instrumental=moved(faster(instrumental), 1000), sample_rate=16000
    )
    assert track.header.alignment is not None
    assert track.header.alignment.offset_samples == -500
    # Twice resampled, nothing is what it was next to half the rate.
    low = slice(0, 110)
    mixture, cached = (track.read_complex(role, 10, 600)[:, low] for role in track.header.storage)
    truth = stft(vocals, tiny_stft)[:, low, 10:610]
    assert np.abs(mixture - cached - truth).max() < 0.01 * np.abs(truth).max()


def test_vocals_are_measured_on_what_is_left_after_the_alignment(
    prepare_pair: Prepare, instrumental: FloatArray, vocals: FloatArray
) -> None:
    straight = prepare_pair(mixture=instrumental + vocals, instrumental=instrumental).header.statistics["vocals"]
    late = prepare_pair(mixture=instrumental + vocals, instrumental=moved(instrumental, 777)).header.statistics[
        "vocals"
    ]
    assert late.level_db == pytest.approx(straight.level_db, abs=1e-4)
    assert late.peak == pytest.approx(straight.peak, rel=1e-4)


def test_halves_are_taken_as_they_are_when_asked_to(
    prepare_pair: Prepare, instrumental: FloatArray, vocals: FloatArray, tiny_stft: StftSpec
) -> None:
    delayed = moved(instrumental, 300)[:, :-300]
    track = prepare_pair(mixture=instrumental + vocals, instrumental=delayed, align_pairs=False)
    assert track.header.alignment is None
    there = {"mixture": instrumental + vocals, "instrumental": delayed}
    assert max(error_db(track, there, tiny_stft).values()) < -130


def test_a_part_without_a_mixture_has_nothing_to_be_aligned_with(
    prepare_pair: Prepare, instrumental: FloatArray, vocals: FloatArray, tiny_stft: StftSpec
) -> None:
    track = prepare_pair(instrumental=instrumental, vocals=moved(vocals, 300)[:, :-300])
    assert track.header.alignment is None
    mixture = instrumental + moved(vocals, 300)[:, :-300]
    assert error_db(track, {"mixture": mixture}, tiny_stft)["mixture"] < -130


@pytest.mark.parametrize("part", ["instrumental", "vocals"])
def test_another_song_is_refused_with_the_remedy(
    prepare_pair: Prepare, instrumental: FloatArray, vocals: FloatArray, make_signal: Make, tmp_path: Path, part: str
) -> None:
    other = make_signal(5, seconds=SECONDS)
    message = (
        rf"^its {part} is not heard in its mixture \(only \d+% of the song fits\); expected the same recording, at the "
        "same speed; pass --no-align if it is$"
    )
    with pytest.raises(AudioError, match=message):
        prepare_pair(mixture=instrumental + vocals, **{part: other})
    assert list((tmp_path / "cache/pair").iterdir()) == []


def test_another_speed_is_refused(prepare_pair: Prepare, instrumental: FloatArray, vocals: FloatArray) -> None:
    slower = resample(Waveform(samples=instrumental, sample_rate=8000), 8080).samples
    with pytest.raises(AudioError, match="at the same speed"):
        prepare_pair(mixture=instrumental + vocals, instrumental=slower)


def test_a_song_without_vocals_is_a_pair_of_which_nothing_is_left(
    prepare_pair: Prepare, instrumental: FloatArray
) -> None:
    track = prepare_pair(mixture=instrumental, instrumental=moved(instrumental, 55))
    assert track.header.statistics["vocals"].silence_share == 1.0
    assert track.header.statistics["vocals"].peak == 0.0
