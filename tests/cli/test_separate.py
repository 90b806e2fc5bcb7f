"""`vrtool separate` through its entry point, with a network too small to be good."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import Waveform, read_audio, write_audio
from vrtool.model import ModelConfig
from vrtool.model.acceleration import Precision
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

    def from_checkpoint(path: Path, *, device: str, precision: Precision) -> Separator:
        if path == Path("half"):
            return Separator(Half(), STFT, device=device, precision=precision)
        return load(path, device=device, precision=precision)

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


def test_without_a_model_it_says_what_to_pass(vrtool: Command, tmp_path: Path) -> None:
    done = vrtool("separate", write_song(tmp_path / "song.wav"), "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "--model RUN" in done.stderr


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
