"""The scripts beside the recipe of the weights in the box."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vrtool.audio.waveform import Waveform, read_audio, write_audio

SPEEDS = Path(__file__).parents[1] / "recipes" / "builtin" / "speeds.py"


def speeds(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SPEEDS), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write_song(path: Path, *, level: float = 0.5, sample_rate: int = 8000) -> Waveform:
    rng = np.random.default_rng(len(path.name))
    samples = (level * rng.uniform(-1.0, 1.0, (1, 4000))).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, Waveform(samples=samples, sample_rate=sample_rate))
    return read_audio(path)


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_songs_are_copied_at_other_rates_but_for_those_left_out_and_for_copies(tmp_path: Path) -> None:
    song = write_song(tmp_path / "voices" / "Mr. Smith.wav")
    write_song(tmp_path / "voices" / "kept.flac", sample_rate=88200)
    write_song(tmp_path / "voices" / "high.flac", sample_rate=88200)
    for _ in range(2):
        done = speeds(tmp_path / "voices", tmp_path / "voices", "--speeds", "0.89", "1.12", "--leave-out", "kept")
        assert (done.returncode, done.stderr) == (0, "")
    copies = [f"{name}_x{speed}.flac" for name in ("Mr. Smith", "high") for speed in ("0.89", "1.12")]
    assert names_in(tmp_path / "voices") == sorted(["Mr. Smith.wav", "high.flac", "kept.flac", *copies])
    copy = read_audio(tmp_path / "voices" / "Mr. Smith_x1.12.flac")
    assert copy.sample_rate == 8960
    np.testing.assert_allclose(copy.samples, song.samples, atol=2e-7)
    assert read_audio(tmp_path / "voices" / "high_x1.12.flac").sample_rate == 98780


def test_the_halves_of_a_pair_keep_their_balance(tmp_path: Path) -> None:
    halves = {
        stem: write_song(tmp_path / "pairs" / "Vol. 1" / f"{stem}.wav", level=level)
        for stem, level in (("vocals", 0.5), ("instrumental", 1.6))
    }
    assert speeds(tmp_path / "pairs", tmp_path / "more", "--speeds", "1.12").returncode == 0
    assert names_in(tmp_path / "more") == ["Vol. 1_x1.12/instrumental.flac", "Vol. 1_x1.12/vocals.flac"]
    loudest = np.abs(halves["instrumental"].samples).max()
    for stem, half in halves.items():
        copy = read_audio(tmp_path / "more" / "Vol. 1_x1.12" / f"{stem}.flac")
        np.testing.assert_allclose(copy.samples, half.samples / loudest, atol=3e-7)


@pytest.mark.parametrize(("leave_out", "folder", "told"), [
    (("--leave-out", "nobody"), "song", "has none of nobody"),
    ((), "album/song", "expected a song folder, found one with folders"),
])  # fmt: skip
def test_what_fits_no_library_is_told(tmp_path: Path, leave_out: tuple[str, ...], folder: str, told: str) -> None:
    write_song(tmp_path / "pairs" / folder / "vocals.wav")
    done = speeds(tmp_path / "pairs", tmp_path / "more", "--speeds", "1.12", *leave_out)
    assert told in done.stderr
    assert done.returncode == (0 if leave_out else 1)
