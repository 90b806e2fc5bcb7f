"""The header of a checkpoint has what its architecture reads, and one that does not fit is refused with a reason."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vrtool.audio.spectrogram import StftSpec
from vrtool.errors import CheckpointError
from vrtool.model import ModelConfig, build_model
from vrtool.model.checkpoint import Checkpoint, load_checkpoint, load_model, save_checkpoint
from vrtool.model.checkpoint_header import FORMAT_VERSION

CONFIG = ModelConfig(
    n_fft=64, channels=2, num_bands=2, feedforward_dim=12, num_encoders=1, num_decoders=0, crop_frames=10
)
STFT = StftSpec(sample_rate=8000, n_fft=64, hop_length=16)

# What checkpoints held before there was a second architecture: all settings that there were.
MODEL: dict[str, Any] = {
    "architecture": "frame_transformer",
    "num_channels": 2,
    "n_fft": 64,
    "channels": 2,
    "num_bands": 2,
    "feedforward_dim": 12,
    "num_encoders": 1,
    "num_decoders": 0,
    "crop_frames": 10,
    "dropout": 0.1,
    "bias": True,
    "norm": "pre",
    "position": "rotary",
    "compression": 0.3,
}


def header(**changes: Any) -> dict[str, Any]:
    return {
        "format_version": 1,  # which had no checksums
        "model": MODEL,
        "stft": asdict(STFT),
        "recipe": "",
        "progress": {},
        "card": {},
    } | changes


def new_checkpoint(model: ModelConfig) -> Checkpoint:
    return Checkpoint(weights=build_model(model).state_dict(), model=model, stft=STFT)


def write_foreign(path: Path, metadata: dict[str, str] | None) -> Path:
    weights = {f"weights/{name}": tensor for name, tensor in build_model(CONFIG).state_dict().items()}
    save_file(weights, path, metadata=metadata)
    return path


def test_the_header_has_the_settings_of_the_architecture_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, new_checkpoint(CONFIG))
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["vrtool"])["model"] == MODEL | {"fine_bins": 0}
    # What the architecture does not read is forgotten, as it is without meaning.
    save_checkpoint(path, new_checkpoint(replace(CONFIG, look_ahead_frames=7)))
    assert load_checkpoint(path).model == CONFIG


def test_a_checkpoint_from_before_there_was_a_second_architecture_loads(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.safetensors", {"vrtool": json.dumps(header())})
    assert load_checkpoint(path).model == CONFIG
    assert load_model(path)(torch.rand(1, 2, 33, 5)).shape == (1, 2, 33, 5)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_foreign_safetensors_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = write_foreign(tmp_path / "bert.safetensors", metadata)
    with pytest.raises(CheckpointError, match=r"bert\.safetensors is a safetensors file without vrtool's header"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (header(format_version=FORMAT_VERSION + 1), r"has format version 4, this vrtool reads up to 3; update vrtool"),
        (header(format_version="soon"), r"header that cannot be understood"),
        (header(recipe=5), r"header whose recipe cannot be understood"),
        ({"format_version": 1}, r"header that cannot be understood"),
        ([1], r"header that cannot be understood"),
        (header(model=MODEL | {"colour": 1}), r"does not fit this vrtool.*colour"),
        (header(model=MODEL | {"channels": "two"}), r"does not fit this vrtool.*channels"),
        (header(model=MODEL | {"bias": 1}), r"does not fit this vrtool.*bias"),
        (header(model=MODEL | {"channels": 0}), r"channels must be at least 1"),
        (header(model=MODEL | {"num_bands": 3}), r"cannot build.*multiple of 32 x num_bands = 96"),
        (header(model=MODEL | {"look_ahead_frames": 32}), r"does not fit this vrtool.* look_ahead_frames$"),
        (header(model={key: MODEL[key] for key in MODEL if key != "norm"}), r"does not fit this vrtool.* norm$"),
        (header(model=MODEL | {"architecture": "unet"}), r"does not fit.* bias, crop_frames, .* position$"),
        (header(model=MODEL | {"architecture": ["unet"]}), r"does not fit this vrtool.*architecture"),
        (header(model={}), r"does not fit this vrtool.*architecture"),
        (header(stft=asdict(STFT) | {"hop_length": 999}), r"does not fit this vrtool.*hop_length"),
        (header(stft=asdict(STFT) | {"n_fft": 128}), r"n_fft 64 for the model, 128 for the STFT"),
        (header(model=MODEL | {"architecture": "perceptron"}), r"cannot build.*'perceptron'"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, content: object, sentence: str) -> None:
    path = write_foreign(tmp_path / "model.safetensors", {"vrtool": json.dumps(content)})
    with pytest.raises(CheckpointError, match=rf"model\.safetensors.*{sentence}"):
        load_checkpoint(path)


def test_a_header_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "model.safetensors", {"vrtool": "{"})
    with pytest.raises(CheckpointError, match=r"model\.safetensors has a header that cannot be understood"):
        load_checkpoint(path)
