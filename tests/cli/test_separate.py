"""`vrtool separate` through its entry point, with a network too small to be good."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from vrtool.audio.encoding import encode
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import Waveform, probe_audio, read_audio, write_audio
from vrtool.cli.separation_progress import rate_words
from vrtool.model import ModelConfig
from vrtool.separation.separator import Separator

STFT = StftSpec(sample_rate=8000, n_fft=256, hop_length=128)

Command = Callable[..., CompletedProcess[str]]


class Half(nn.Module):
    """Gives half of everything to the instrumental."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, 0.5)


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name for --model behind which stands a network that costs no time to load."""
    load = Separator.from_checkpoint

    def from_checkpoint(paths: list[Path], **options: Any) -> Separator:
        return Separator(Half(), STFT, **options) if paths == [Path("half")] else load(paths, **options)

    monkeypatch.setattr(Separator, "from_checkpoint", from_checkpoint)
    return "half"


@pytest.fixture
def network(tmp_path: Path, save_network: Callable[..., Path]) -> Path:
    config = ModelConfig(n_fft=256, channels=1, num_bands=4, feedforward_dim=8, num_encoders=0, num_decoders=0)
    return save_network(tmp_path / "run.safetensors", config)


def write_song(path: Path, level: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).standard_normal((2, 3000)).astype(np.float32) * np.float32(level)
    write_audio(path, Waveform(samples=samples, sample_rate=11025))
    return path


def test_a_song_becomes_stems_that_sum_to_it(vrtool: Command, network: Path, tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav")
    done = vrtool("separate", song, "--output", tmp_path / "out", "--model", network, "--device", "cpu")
    assert done.returncode == 0
    stems = [read_audio(tmp_path / "out" / "song" / name) for name in ("vocals.wav", "instrumental.wav")]
    np.testing.assert_allclose(stems[0].samples + stems[1].samples, read_audio(song).samples, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [((), "asked for; float32, bfloat16 is for GPUs"), (("--precision", "bfloat16"), "; bfloat16, asked for")],
)
def test_the_precision_is_said_at_the_start(
    vrtool: Command, half: str, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    song = write_song(tmp_path / "song.wav")
    done = vrtool("separate", song, "-o", tmp_path / "out", "--model", half, "--device", "cpu", *options)
    assert done.returncode == 0
    assert words in done.stderr


def test_a_song_alone_is_separated_with_what_comes_with_vrtool(
    vrtool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    song = write_song(tmp_path / "song.wav")
    done = vrtool("separate", "song.wav")
    assert done.returncode == 0, done.stderr
    stems = [read_audio(tmp_path / "stems" / "song" / name) for name in ("vocals.wav", "instrumental.wav")]
    np.testing.assert_allclose(stems[0].samples + stems[1].samples, read_audio(song).samples, atol=1e-6)


def test_a_song_that_is_done_is_refused_until_overwrite_is_asked_for(
    vrtool: Command, half: str, tmp_path: Path
) -> None:
    words = ("separate", write_song(tmp_path / "song.wav"), "--output", tmp_path / "out", "--model", half)
    assert vrtool(*words).returncode == 0
    again = vrtool(*words)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    assert vrtool(*words, "--overwrite").returncode == 0


def test_songs_of_a_folder_that_are_done_are_skipped_and_counted(vrtool: Command, half: str, tmp_path: Path) -> None:
    write_song(tmp_path / "in" / "a.wav")
    words = ("separate", tmp_path / "in", "--output", tmp_path / "out", "--model", half)
    assert vrtool(*words).returncode == 0
    write_song(tmp_path / "in" / "b.wav")
    done = vrtool(*words)
    assert done.returncode == 0
    assert "1 song separated" in done.stdout
    assert "1 song skipped" in done.stdout


def test_a_bad_file_is_named_at_the_end_and_makes_the_exit_code_1(vrtool: Command, half: str, tmp_path: Path) -> None:
    write_song(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "bad [1].wav").write_bytes(b"no audio")
    done = vrtool("separate", tmp_path / "in", "--output", tmp_path / "out", "--model", half)
    assert done.returncode == 1
    assert "bad [1]" in done.stderr
    assert (tmp_path / "out" / "a" / "vocals.wav").exists()


def test_clipping_is_said_with_its_count(vrtool: Command, half: str, tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav", level=3)
    done = vrtool("separate", song, "--output", tmp_path / "out", "--model", half, "--format", "flac")
    assert done.returncode == 0
    assert "clipped" in done.stderr


@pytest.mark.parametrize(
    "option", [("--device", "gpu"), ("--format", "aac"), ("--model", "nowhere")], ids=["device", "format", "model"]
)
def test_impossible_options_are_the_users_mistake(
    vrtool: Command, half: str, tmp_path: Path, option: tuple[str, str]
) -> None:
    song = write_song(tmp_path / "song.wav")
    assert vrtool("separate", song, "--output", tmp_path / "out", "--model", half, *option).returncode == 2
    assert not (tmp_path / "out").exists()


def test_stems_are_named_and_kept_as_asked_for(vrtool: Command, half: str, tmp_path: Path) -> None:
    write_song(tmp_path / "in" / "disc" / "a.wav")
    done = vrtool(
        "separate", tmp_path / "in", "--output", tmp_path / "out", "--model", half, "--format", "flac",
        "--subtype", "16", "--stem", "vocals", "--filename", "{track} ({stem}).{ext}",
    )  # fmt: skip
    assert done.returncode == 0
    (path,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert path == tmp_path / "out/disc/a (vocals).flac"
    assert probe_audio(path).samples == "16"


def test_better_stems_are_other_stems_and_sum_to_the_song(
    vrtool: Command, network: Path, tmp_path: Path, save_network: Callable[..., Path]
) -> None:
    config = ModelConfig(n_fft=256, channels=2, num_bands=4, feedforward_dim=8, num_encoders=0, num_decoders=0)
    other = save_network(tmp_path / "other.safetensors", config)
    song = write_song(tmp_path / "song.wav")
    ways: dict[str, list[object]] = {
        "plain": [],
        "two": ["--model", other],
        "swapped": ["--channel-swap-average"],
        "others": ["--shifts", 2, "--postprocess"],
    }
    found = {}
    for name, words in ways.items():
        folder = tmp_path / name
        result = vrtool("separate", song, "-o", folder, "--model", network, "--subtype", "32f", *words)
        assert result.returncode == 0, result.stderr
        stems = [read_audio(folder / "song" / f"{stem}.wav").samples for stem in ("vocals", "instrumental")]
        np.testing.assert_allclose(stems[0] + stems[1], read_audio(song).samples, atol=1e-6)
        found[name] = stems[0]
    for name in ("two", "swapped"):
        assert np.abs(found[name] - found["plain"]).max() > 1e-5, name


def test_pictures_are_drawn_of_a_folder_or_it_is_said_what_they_need(
    vrtool: Command, half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_song(tmp_path / "songs" / "album" / "song.wav")
    words = ("separate", tmp_path / "songs", "-o", tmp_path / "out", "--model", half, "--images")
    assert vrtool(*words).returncode == 0
    assert (tmp_path / "out" / "album" / "song" / "spectrograms.png").is_file()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = vrtool(*words, "--overwrite")
    assert result.returncode == 2
    assert 'pip install "vrtool[pictures]"' in result.stderr


def test_a_stream_takes_one_model_and_no_refinement(vrtool: Command) -> None:
    result = vrtool("separate", "--live", "--model", "a", "--shifts", 2, "--postprocess")
    assert result.returncode == 2
    assert "--shifts, --postprocess: only for songs in files" in result.stderr
    result = vrtool("separate", "--live", "--model", "a", "--model", "b")
    assert "--live goes with one --model, found 2" in result.stderr


def test_a_song_that_is_turned_down_says_by_how_much(vrtool: Command, half: str, tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav", level=3)
    done = vrtool(
        "separate", song, "--output", tmp_path / "out", "--model", half, "--subtype", "16", "--clip-mode", "rescale"
    )
    assert done.returncode == 0
    assert re.search(r"song: turned down by \d+\.\d\d dB", done.stderr)


def test_a_batch_in_json_is_separated_and_copied(vrtool: Command, half: str, tmp_path: Path) -> None:
    write_song(tmp_path / "a.wav")
    write_song(tmp_path / "kept" / "b.wav")
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    batch = {"output": "stems", "convert": ["a.wav", "broken.wav"], "copy": ["kept/b.wav"]}
    (tmp_path / "batch.json").write_text(json.dumps(batch))
    done = vrtool("separate", tmp_path / "batch.json", "--model", half, "--jobs", 2)
    assert done.returncode == 1
    assert "1 song copied" in done.stdout
    assert "broken" in done.stderr
    written = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "stems").rglob("*.wav"))
    assert written == ["stems/a/instrumental.wav", "stems/a/vocals.wav", "stems/b.wav"]


def test_a_batch_stands_alone(vrtool: Command, half: str, tmp_path: Path) -> None:
    (tmp_path / "batch.json").write_text('{"output": "o", "convert": ["a.wav"]}')
    done = vrtool("separate", tmp_path / "batch.json", write_song(tmp_path / "a.wav"), "--model", half)
    assert done.returncode == 2
    assert "give it alone" in done.stderr


def test_progress_tells_songs_speed_and_time_left() -> None:
    assert rate_words(30, 90, 10) == "0:30 of 1:30, 3.0 times real time, 0:20 left"
    assert rate_words(3600, 3600, 60) == "1:00:00 of 1:00:00, 60.0 times real time, 0:00 left"
    assert rate_words(0, 90, 10) == ""


def test_where_there_is_no_terminal_a_line_now_and_then_says_how_far_it_is(
    vrtool: Command, half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vrtool.cli.separation_progress.SECONDS_BETWEEN_LINES", 0.0)
    write_song(tmp_path / "in" / "a [1].wav")
    done = vrtool("separate", tmp_path / "in", "--output", tmp_path / "out", "--model", half)
    assert re.search(r"a \[1\] \(1 of 1\): 0:00 of 0:00; in all 0:00 of 0:00, [\d.]+ times real time", done.stderr)


def test_a_terminal_has_a_bar_for_each_song_and_one_for_all(
    vrtool: Command, half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr("vrtool.cli.separation_progress.errors", terminal)
    for name in ("a [1]", "b"):
        write_song(tmp_path / "in" / f"{name}.wav")
    assert vrtool("separate", tmp_path / "in", "--output", tmp_path / "out", "--model", half).returncode == 0
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "all" in shown
    assert "times real time" in shown


@pytest.mark.skipif(os.name != "posix", reason="only there a process can be killed this way")
def test_a_killed_command_leaves_no_stem_and_the_next_one_clears_its_rest(
    vrtool: Command, tmp_path: Path, network: Path
) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 8000 * 300)).astype(np.float32)
    write_audio(tmp_path / "song.wav", Waveform(samples=samples, sample_rate=8000))
    words = ["separate", tmp_path / "song.wav", "-o", tmp_path / "out", "-m", network, "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "vrtool", *map(str, words)], stderr=subprocess.DEVNULL)
    folder = tmp_path / "out/song"

    def partial() -> list[Path]:
        return [path for path in folder.glob(".*partial*") if path.stat().st_size > 100_000]

    deadline = time.monotonic() + 120
    while len(partial()) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(partial()) == 2
    assert not list(folder.glob("[!.]*"))
    encode(tmp_path / "song.wav", samples[:, :8000], 8000)
    assert vrtool(*words).returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["instrumental.wav", "vocals.wav"]
