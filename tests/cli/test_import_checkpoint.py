"""`vrtool import-checkpoint`, from the ancestor's file to a network that separates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from safetensors.torch import load_file

from vrtool.audio.spectrogram import StftSpec
from vrtool.model.checkpoint import load_checkpoint

REFERENCE = Path(__file__).parents[1] / "model" / "data" / "ancestor_a.safetensors"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The ancestor's weights as it saved them."""
    tensors = load_file(REFERENCE)
    state = {key.removeprefix("weights/"): tensor for key, tensor in tensors.items() if key.startswith("weights/")}
    torch.save(state, tmp_path / "published.pth")
    return tmp_path / "published.pth"


def test_weights_become_a_checkpoint_and_its_settings_are_told(
    vrtool: Callable[..., CompletedProcess[str]], published: Path, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "imported.safetensors"
    done = vrtool("import-checkpoint", published, "--output", output, "--sample-rate", 16000, "--hop-length", 32)
    assert done.returncode == 0, done.stderr
    assert "num_bands 4" in done.stdout
    assert "look_ahead_frames" not in done.stdout
    assert load_checkpoint(output).stft == StftSpec(sample_rate=16000, n_fft=128, hop_length=32)


def test_a_file_that_is_there_is_not_replaced(
    vrtool: Callable[..., CompletedProcess[str]], published: Path, tmp_path: Path
) -> None:
    output = tmp_path / "imported.safetensors"
    output.write_text("precious")
    done = vrtool("import-checkpoint", published, "-o", output)
    assert done.returncode == 2
    assert f"{output} exists already" in done.stderr
    assert output.read_text() == "precious"


def test_another_file_is_refused(vrtool: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    done = vrtool("import-checkpoint", tmp_path / "other.pth", "-o", tmp_path / "model.safetensors")
    assert done.returncode != 0
    assert "unknown or doubled tensors fc.weight" in done.stderr
    assert not (tmp_path / "model.safetensors").exists()
