"""Pairs through `vrtool prepare`: which files make one, and what happens to halves that do not fit as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import CachedTrack, open_cache

Make = Callable[..., FloatArray]
Write = Callable[..., Path]
Command = Callable[..., CompletedProcess[str]]

SECONDS = 10.0
DELAY = 900
"""Samples; about a tenth of a second, as the padding of two mp3 encoders may differ."""


@pytest.fixture
def instrumental(make_signal: Make) -> FloatArray:
    return make_signal(0, seconds=SECONDS)


@pytest.fixture
def voice(make_signal: Make) -> FloatArray:
    return make_signal(1, seconds=SECONDS, level=0.05)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return tmp_path / "pairs"


def late_loud_and_inverted(samples: FloatArray) -> FloatArray:
    return -1.5 * np.pad(samples, ((0, 0), (DELAY, 0)))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tracks(output: Path) -> dict[str, CachedTrack]:
    return {track.header.name: track for track in open_cache(output).tracks}


def vocals_error_db(track: CachedTrack, voice: FloatArray, spec: StftSpec) -> float:
    """How far below the true vocals the error of the cached ones (mixture less instrumental) lies."""
    mixture, instrumental = (track.read_complex(role, 0, track.header.num_frames) for role in track.header.storage)
    truth = stft(voice, spec)
    assert truth.shape == mixture.shape
    return float(20 * np.log10(np.linalg.norm(mixture - instrumental - truth) / np.linalg.norm(truth)))


@pytest.mark.parametrize("part", ["instrumental", "vocals"])
def test_cached_vocals_are_the_true_ones_wherever_the_part_lies_in_its_file(
    prepare: Command,
    pairs: Path,
    output: Path,
    instrumental: FloatArray,
    voice: FloatArray,
    write_sound: Write,
    tiny_stft: StftSpec,
    part: str,
) -> None:
    signal = instrumental if part == "instrumental" else voice
    for name, samples in (("straight", signal), ("moved", late_loud_and_inverted(signal))):
        write_sound(pairs / name / "mixture.wav", instrumental + voice)
        write_sound(pairs / name / f"{part}.wav", samples)
    before = contents(pairs)
    done = prepare("--pairs", pairs, "--output", output, "--precision", "float32")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(pairs) == before
    found = tracks(output)
    straight, moved = (found[name].header.alignment for name in ("straight", "moved"))
    assert straight is not None
    assert moved is not None
    assert (straight.offset_samples, straight.gain) == (0, 1.0)
    assert moved.offset_samples == -DELAY
    assert moved.gain == pytest.approx(-1 / 1.5, rel=0.01)
    assert vocals_error_db(found["straight"], voice, tiny_stft) < -100
    assert vocals_error_db(found["moved"], voice, tiny_stft) < -40


def test_mixtures_and_instruments_are_aligned_too(
    prepare: Command,
    pairs: Path,
    output: Path,
    instrumental: FloatArray,
    voice: FloatArray,
    write_sound: Write,
    tiny_stft: StftSpec,
) -> None:
    write_sound(pairs / "mixtures/song.wav", instrumental + voice)
    write_sound(pairs / "instruments/song (inst).wav", instrumental[:, DELAY:])
    assert prepare("--pairs", pairs, "--output", output).returncode == 0
    (track,) = tracks(output).values()
    assert track.header.alignment is not None
    assert track.header.alignment.offset_samples == DELAY
    # What the instrumental lacks is left out; int16 errs 80 dB below the mixture.
    assert vocals_error_db(track, voice[:, DELAY:], tiny_stft) < -65


def test_instrumental_and_vocals_make_their_mixture_as_they_are(
    prepare: Command,
    pairs: Path,
    output: Path,
    instrumental: FloatArray,
    voice: FloatArray,
    write_sound: Write,
    tiny_stft: StftSpec,
) -> None:
    late = np.pad(voice, ((0, 0), (DELAY, 0)))[:, :-DELAY]
    write_sound(pairs / "song/instrumental.wav", instrumental)
    write_sound(pairs / "song/vocals.wav", late)
    assert prepare("--pairs", pairs, "--output", output, "--precision", "float32").returncode == 0
    (track,) = tracks(output).values()
    assert track.header.alignment is None
    assert vocals_error_db(track, late, tiny_stft) < -100
    mixture = track.read_complex("mixture", 0, track.header.num_frames)
    np.testing.assert_allclose(mixture, stft(instrumental + late, tiny_stft), atol=1e-4)


def test_a_wrong_pair_is_refused_by_name_and_taken_when_asked_to(
    prepare: Command,
    pairs: Path,
    output: Path,
    instrumental: FloatArray,
    voice: FloatArray,
    make_signal: Make,
    write_sound: Write,
    tiny_stft: StftSpec,
) -> None:
    for name, part in (("right", instrumental), ("wrong", make_signal(5, seconds=SECONDS))):
        write_sound(pairs / name / "mixture.wav", instrumental + voice)
        write_sound(pairs / name / "instrumental.wav", part)
    done = prepare("--pairs", pairs, "--output", output)
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        "1 could not be used (everything else is in the cache):",
        f"  {pairs}/wrong: its instrumental is not heard in its mixture (only 0% of the song fits); expected the same "
        "recording, at the same speed; pass --no-align if it is",
    ]
    assert set(tracks(output)) == {"right"}
    done = prepare("--pairs", pairs, "--output", output, "--no-align")
    assert (done.returncode, done.stderr) == (0, "")
    assert "(2 prepared now, 0 were there)" in done.stdout
    found = tracks(output)
    assert found["right"].header.alignment is found["wrong"].header.alignment is None
    there = instrumental + voice - make_signal(5, seconds=SECONDS)
    assert vocals_error_db(found["wrong"], there, tiny_stft) < -65
