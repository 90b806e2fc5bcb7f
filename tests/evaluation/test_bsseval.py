"""BSSEval v4 beside museval's numbers, and on estimates whose parts are known.

The numbers in MUSEVAL were computed by museval 0.4.1 with

    museval.metrics.bss_eval(references, estimates, window=4000, hop=4000)

on the arrays of `song()`, (source, sample, channel), and medians over frames by numpy.nanmedian.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from vrtool.audio.waveform import FloatArray
from vrtool.evaluation.bsseval import BssEval, BssScores

RATE = 4000
MUSEVAL = {
    "vocals": (12.788449788648768, 13.877642086608532, 20.286340644759004, 26.057634319120982),
    "instrumental": (8.560737295403417, 21.3136967195131, 13.617880549618855, 10.79139634805),
}


def song() -> tuple[list[FloatArray], list[FloatArray]]:
    """Return sources and estimates (channel, sample) of 4.5 s, filtered, mixed and noisy, with a silent frame."""
    rng = np.random.default_rng(1)
    vocals, instrumental, noise, more_noise = rng.standard_normal((4, 2, 4 * RATE + RATE // 2))
    vocals[:, RATE : 2 * RATE] = 0
    echo = np.pad(vocals, ((0, 0), (30, 0)))[::-1, : vocals.shape[1]]
    first = vocals + 0.2 * echo + 0.1 * instrumental + 0.05 * noise
    second = instrumental + 0.3 * np.pad(instrumental, ((0, 0), (600, 0)))[:, :-600] + 0.2 * vocals + 0.1 * more_noise
    # Rounded to 16 bits as all audio is for BSSEval, so that museval gets the same.
    rounded = [
        (np.rint(3277 * samples) / 32768).astype(np.float32) for samples in (vocals, instrumental, first, second)
    ]
    return rounded[:2], rounded[2:]


def both_scores(sources: list[FloatArray], estimates: list[FloatArray]) -> list[BssScores]:
    return [score for score in BssEval(sources, RATE).score(estimates) if score is not None]


def first_score(sources: list[FloatArray], estimate: FloatArray) -> BssScores:
    """Return the score of an estimate of the first source, there being none of the second."""
    score, missing = BssEval(sources, RATE).score([estimate, None])
    assert missing is None
    assert score is not None
    return score


def as_tuple(score: BssScores) -> tuple[float, ...]:
    return score.sdr_db, score.isr_db, score.sir_db, score.sar_db


def test_scores_are_those_that_museval_gave() -> None:
    sources, estimates = song()
    vocals, instrumental = both_scores(sources, estimates)
    assert as_tuple(vocals) == pytest.approx(MUSEVAL["vocals"], abs=1e-6)
    assert as_tuple(instrumental) == pytest.approx(MUSEVAL["instrumental"], abs=1e-6)


def fake_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put programs of the names on the path without which museval cannot be imported, though it does not run them."""
    for name in ("ffmpeg", "ffprobe"):
        (folder / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_scores_are_those_of_the_museval_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ffmpeg(tmp_path, monkeypatch)
    metrics = pytest.importorskip("museval.metrics")
    sources, estimates = song()
    found = metrics.bss_eval(*(np.stack([x.T for x in signals]) for signals in (sources, estimates)), RATE, RATE)
    expected = [tuple(float(np.nanmedian(measure[number])) for measure in found[:4]) for number in range(2)]
    for score, reference in zip(both_scores(sources, estimates), expected, strict=True):
        assert as_tuple(score) == pytest.approx(reference, abs=1e-6)


def noise(seed: int, seconds: float = 3.0, num_channels: int = 1) -> FloatArray:
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal((num_channels, round(seconds * RATE))).astype(np.float32)


def test_interference_of_a_tenth_is_20_db_of_sir_and_nothing_else() -> None:
    vocals, instrumental = noise(0), noise(1)
    score = first_score([vocals, instrumental], vocals + np.float32(0.1) * instrumental)
    # 512 taps find chance likeness between the sources: a share of 512 / 12000 of the interference.
    assert score.sir_db == pytest.approx(20, abs=0.6)
    assert score.sdr_db == pytest.approx(20, abs=0.2)
    assert score.sar_db > 60


def test_a_gain_is_spatial_distortion_and_neither_interference_nor_artifact() -> None:
    vocals, instrumental = noise(0), noise(1)
    score = first_score([vocals, instrumental], np.float32(0.5) * vocals)
    assert score.sdr_db == pytest.approx(6.0206, abs=1e-3)
    assert score.isr_db == pytest.approx(6.0206, abs=1e-3)
    assert score.sir_db > 70
    assert score.sar_db > 70  # 16 bits


def test_noise_of_a_tenth_is_about_20_db_of_sar() -> None:
    vocals, instrumental = noise(0, 12.0), noise(1, 12.0)
    score = first_score([vocals, instrumental], vocals + np.float32(0.1) * noise(2, 12.0))
    assert score.sdr_db == pytest.approx(20, abs=0.2)
    assert score.sar_db == pytest.approx(20, abs=0.3)
    assert score.isr_db > 30


def test_both_sides_of_a_mono_recording_score_as_the_mono_recording() -> None:
    # There the sources' correlations cannot be inverted.
    vocals, instrumental = noise(0), noise(1)
    estimate = vocals + np.float32(0.1) * instrumental + np.float32(0.05) * noise(2)
    mono = first_score([vocals, instrumental], estimate)
    twice = [np.repeat(samples, 2, axis=0) for samples in (vocals, instrumental, estimate)]
    stereo = first_score(twice[:2], twice[2])
    assert as_tuple(stereo) == pytest.approx(as_tuple(mono), abs=1e-3)


def test_a_frame_in_which_an_estimate_is_silent_is_left_out() -> None:
    vocals, instrumental = noise(0), noise(1)
    estimate = np.float32(0.5) * vocals
    estimate[:, RATE : 2 * RATE] = 0
    score = first_score([vocals, instrumental], estimate)
    assert score.sdr_db == pytest.approx(6.02, abs=0.01)


def test_without_a_frame_in_which_all_are_heard_there_is_no_score() -> None:
    vocals, instrumental = noise(0), noise(1)
    vocals[:, RATE:] = 0
    instrumental[:, :RATE] = 0
    assert BssEval([vocals, instrumental], RATE).score([vocals, instrumental]) == [None, None]


def test_a_song_shorter_than_a_frame_is_one_frame() -> None:
    vocals, instrumental = noise(0, 0.7), noise(1, 0.7)
    score = first_score([vocals, instrumental], np.float32(0.5) * vocals)
    assert score.sdr_db == pytest.approx(6.0206, abs=1e-3)


def test_a_perfect_estimate_has_an_infinite_sdr() -> None:
    vocals, instrumental = noise(0), noise(1)
    assert first_score([vocals, instrumental], vocals).sdr_db == math.inf


@pytest.mark.parametrize("level", [0.0, 1e-6])
def test_where_a_source_is_silent_there_are_no_scores(level: float) -> None:
    vocals = noise(0)
    assert BssEval([vocals, np.float32(level) * noise(1)], RATE).score([vocals, vocals]) == [None, None]


def test_an_empty_band_leaves_the_ratios_sensible() -> None:
    # What a lossy encoder leaves: nothing above a half of the band, in either source.
    low = [scipy.signal.resample(noise(seed, 3.0), 6 * RATE, axis=1).astype(np.float32) for seed in range(3)]
    vocals, instrumental, artifacts = (np.float32(0.1) * samples for samples in low)
    score = first_score([vocals, instrumental], vocals + np.float32(0.1) * instrumental + np.float32(0.1) * artifacts)
    assert score.sir_db == pytest.approx(20, abs=1)
    assert score.sar_db == pytest.approx(20, abs=1)


def test_a_long_song_is_correlated_block_by_block() -> None:
    # Blocks have 65,536 samples; 20 s of 4 kHz are 80,000.
    vocals, instrumental = noise(0, 20.0), noise(1, 20.0)
    echo = np.pad(vocals, ((0, 0), (511, 0)))[:, : vocals.shape[1]]
    score = first_score([vocals, instrumental], echo)
    # The last tap finds the echo. Frames are filtered one by one: the echo's first 511 samples come from the frame
    # before, and those of its own last ones are looked for in vain.
    assert score.sir_db > 40
    assert score.sar_db == pytest.approx(10 * math.log10(RATE / (2 * 511)), abs=0.3)
