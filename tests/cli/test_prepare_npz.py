"""The ancestor's patches through `vrtool prepare --npz`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from vrtool.audio.spectrogram import ComplexArray, StftSpec, stft
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import open_cache

Make = Callable[..., FloatArray]
Command = Callable[..., CompletedProcess[str]]

PATCH_FRAMES = 64


def save(folder: Path, song: str, c: float, **arrays: ComplexArray) -> None:
    """Write a song as the ancestor does: in patches of equal length, the last one filled up with zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, arrays["X"].shape[2], PATCH_FRAMES)):
        cut = {name: array[:, :, start : start + PATCH_FRAMES] for name, array in arrays.items()}
        missing = PATCH_FRAMES - cut["X"].shape[2]
        padded = {name: np.pad(array, ((0, 0), (0, 0), (0, missing))) for name, array in cut.items()}
        np.savez(folder / f"{song}_p{number}.npz", c=np.float32(c), **padded)  # type: ignore[arg-type]


@pytest.fixture
def signals(make_signal: Make, tiny_stft: StftSpec) -> dict[str, ComplexArray]:
    """The spectrograms of an instrumental, of vocals and of both together."""
    instrumental, vocals = make_signal(0, seconds=5.0), make_signal(1, seconds=5.0, level=0.05)
    sounds = {"instrumental": instrumental, "vocals": vocals, "mixture": instrumental + vocals}
    return {name: stft(samples, tiny_stft) for name, samples in sounds.items()}


@pytest.fixture
def patches(tmp_path: Path, signals: dict[str, ComplexArray], make_signal: Make) -> Path:
    """Patches of each kind in the ancestor's folders, as they lie on its disks."""
    root = tmp_path / "patches"
    folder = "cs64_sr8000_hl128_nf256_of0"
    instrumental, mixture = signals["instrumental"], signals["mixture"]
    save(root / f"{folder}_INSTRUMENTS", "song", float(np.abs(instrumental).max()), X=instrumental)
    waveform_peak = float(np.abs(make_signal(1, seconds=5.0, level=0.05)).max())
    save(root / f"{folder}_VOCALS", "song", waveform_peak, X=signals["vocals"])
    save(root / f"{folder}_PAIRS", "song", float(np.abs(mixture).max()), X=mixture, Y=instrumental)
    return root


def error_db(found: ComplexArray, expected: ComplexArray) -> float:
    return float(20 * np.log10(np.linalg.norm(found - expected) / np.linalg.norm(expected) + 1e-30))


@pytest.mark.parametrize(("precision", "limit_db"), [("float32", -500.0), ("int16", -80.0)])
def test_patches_become_tracks_of_their_kind_with_what_was_in_them(
    prepare: Command,
    patches: Path,
    output: Path,
    signals: dict[str, ComplexArray],
    precision: str,
    limit_db: float,
) -> None:
    done = prepare("--npz", patches, "--output", output, "--precision", precision, "--validation", "0")
    assert (done.returncode, done.stderr) == (0, "")
    tracks = {track.header.kind: track for track in open_cache(output).tracks}
    assert set(tracks) == {"instrumental", "vocal", "pair"}
    for track in tracks.values():
        assert track.verify() is None
        assert track.header.library == "patches"
        for role in track.header.storage:
            assert error_db(track.read_complex(role, 0, track.header.num_frames), signals[role]) < limit_db
        difference = signals["mixture"] - signals["instrumental"]
        for role, statistics in track.header.statistics.items():
            truth = difference if track.header.kind == "pair" and role == "vocals" else signals[role]
            assert statistics.peak == pytest.approx(float(np.abs(truth).max()), rel=1e-6)


def test_a_second_run_does_nothing(prepare: Command, patches: Path, output: Path) -> None:
    prepare("--npz", patches, "--output", output)
    assert "(0 prepared now, 3 were there)" in prepare("--npz", patches, "--output", output).stdout


def test_patches_and_audio_are_prepared_together(prepare: Command, patches: Path, vocals: Path, output: Path) -> None:
    done = prepare("--npz", patches, "--vocals", vocals, "--output", output)
    assert "6 tracks" in done.stdout
    assert [track.header.kind for track in open_cache(output).tracks] == ["instrumental", "pair", *["vocal"] * 4]


def test_another_n_fft_is_refused_with_the_option_to_pass(prepare: Command, patches: Path, output: Path) -> None:
    done = prepare("--npz", patches, "--output", output, "--n-fft", "512")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        "3 could not be used (and there was nothing else):",
        *(
            f"  {patches}/cs64_sr8000_hl128_nf256_of0_{kind}/song: has 129 bins, expected 257; pass --n-fft 256"
            for kind in ("INSTRUMENTS", "PAIRS", "VOCALS")
        ),
    ]
    assert prepare("--npz", patches, "--output", output, "--n-fft", "256").returncode == 0


def test_a_folder_without_patches_is_the_users_mistake(prepare: Command, vocals: Path, output: Path) -> None:
    done = prepare("--npz", vocals, "--output", output)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no patches in {vocals}; ")
    assert not output.exists()


def test_a_dry_run_counts_them(prepare: Command, patches: Path, output: Path) -> None:
    done = prepare("--npz", patches, "--output", output, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("to prepare      3 tracks")
    assert not output.exists()
