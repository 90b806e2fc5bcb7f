"""Checkpoints carry everything, come back bit for bit, and refuse what is not one with a sentence that helps."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vrtool.audio.spectrogram import StftSpec
from vrtool.errors import CheckpointError, DamagedCheckpointError
from vrtool.model import ModelConfig, build_model
from vrtool.model.checkpoint import (
    Checkpoint,
    checkpoint_model,
    find_checkpoint,
    load_checkpoint,
    load_model,
    save_checkpoint,
)

CONFIG = ModelConfig(
    n_fft=64, channels=2, num_bands=2, feedforward_dim=12, num_encoders=1, num_decoders=0, crop_frames=10
)
STFT = StftSpec(sample_rate=8000, n_fft=64, hop_length=16)
RECIPE = '[model]\nname = "Ünïcode"\n'


def new_checkpoint(**changes: Any) -> Checkpoint:
    torch.manual_seed(0)
    checkpoint = Checkpoint(
        weights=build_model(CONFIG).state_dict(),
        model=CONFIG,
        stft=STFT,
        recipe=RECIPE,
        progress={"epoch": 3, "losses": [0.5, 0.25], "best": None, "done": False},
        card={"name": "a tiny one", "scores": {"nsdr": 1.5}},
        training_state={"optimiser/step": torch.tensor(7), "optimiser/mean": torch.rand(3, 2)},
    )
    return replace(checkpoint, **changes)


def test_everything_comes_back(tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "model.safetensors", new_checkpoint()
    save_checkpoint(path, checkpoint)
    loaded = load_checkpoint(path, with_training_state=True)
    assert loaded.model == checkpoint.model
    assert loaded.stft == checkpoint.stft
    assert loaded.recipe == checkpoint.recipe
    assert loaded.progress == checkpoint.progress
    assert loaded.card == checkpoint.card
    for before, after in (
        (checkpoint.weights, loaded.weights),
        (checkpoint.training_state, loaded.training_state),
    ):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert all(before[name].dtype == after[name].dtype for name in before)


def test_training_state_stays_unread_unless_asked_for(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.safetensors", new_checkpoint())
    assert load_checkpoint(tmp_path / "model.safetensors").training_state == {}


def test_a_loaded_network_gives_the_same_mask_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = build_model(CONFIG)
    network(torch.rand(4, 2, 33, 10))  # moves the batch norms' statistics
    save_checkpoint(tmp_path / "model.safetensors", new_checkpoint(weights=network.state_dict()))
    loaded = load_model(tmp_path / "model.safetensors")
    assert not loaded.training
    magnitude = torch.rand(2, 2, 33, 12)
    with torch.inference_mode():
        assert torch.equal(network.eval()(magnitude), loaded(magnitude))


def test_a_network_does_not_share_memory_with_its_checkpoint() -> None:
    checkpoint = new_checkpoint()
    network = checkpoint_model(checkpoint)
    before = checkpoint.weights["output.weight"].clone()
    with torch.no_grad():
        network.get_parameter("output.weight").add_(1.0)
    assert torch.equal(checkpoint.weights["output.weight"], before)


def test_tensors_that_share_memory_or_lie_strided_can_be_saved(tmp_path: Path) -> None:
    shared = torch.rand(4, 3)
    state = {"a": shared, "b": shared, "c": shared.T}
    save_checkpoint(tmp_path / "model.safetensors", new_checkpoint(training_state=state))
    loaded = load_checkpoint(tmp_path / "model.safetensors", with_training_state=True).training_state
    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.skipif(os.name != "posix", reason="file modes are a thing of POSIX")
def test_a_checkpoint_is_as_readable_as_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    save_checkpoint(tmp_path / "model.safetensors", new_checkpoint())
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "model.safetensors")}
    assert len(modes) == 1


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, new_checkpoint())
    before = path.read_bytes()
    unwritable: Any = {"moment": object()}
    with pytest.raises(TypeError):
        save_checkpoint(path, new_checkpoint(progress=unwritable))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_number_of_dropout_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, new_checkpoint(model=replace(CONFIG, dropout=0)))
    assert load_checkpoint(path).model.dropout == 0


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors does not exist"):
        load_checkpoint(tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError, match=r"is a folder"):
        load_checkpoint(tmp_path)


def test_files_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.safetensors"
    for content in (b"", b"RIFF", b"RIFF....WAVEfmt " * 64):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"song\.safetensors is damaged, incomplete or not a safetensors"):
            load_checkpoint(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, new_checkpoint())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged, incomplete"):
        load_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_and_says_where_it_may_belong(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.pth"
    torch.save({"out.bias": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"model\.pth is a pickle.*vrtool import-checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_that_begins_like_a_pickle_is_still_one(tmp_path: Path) -> None:
    # The length of the header stands first, little end first, and 0x80 0x02 is how pickles of protocol 2 begin.
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, new_checkpoint())
    length = int.from_bytes(path.read_bytes()[:8], "little")
    # Headers are filled up with spaces to a multiple of 8 bytes, so that 8 more characters are 8 more bytes.
    save_checkpoint(path, new_checkpoint(recipe=RECIPE + "#" * ((0x0280 - length) % 0x10000)))
    assert path.read_bytes().startswith(b"\x80\x02")
    assert load_checkpoint(path).model == CONFIG


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path, weights = tmp_path / "model.safetensors", new_checkpoint().weights
    lost = {name: tensor for name, tensor in weights.items() if name != "output.bias"}
    cases: tuple[tuple[dict[str, Tensor], str], ...] = (
        (lost, r"output\.bias is missing"),
        (weights | {"extra": torch.zeros(1)}, r"extra is unknown"),
        (weights | {"output.bias": torch.zeros(5)}, r"output\.bias has shape \(5,\) instead of \(2,\)"),
        ({}, r"is missing, .* more like that"),
    )
    for wrong, sentence in cases:
        with pytest.raises(CheckpointError, match=sentence):
            checkpoint_model(new_checkpoint(weights=wrong))
        save_checkpoint(path, new_checkpoint(weights=wrong))
        with pytest.raises(CheckpointError, match=rf"model\.safetensors.*{sentence}"):
            load_checkpoint(path)


def test_a_run_folder_offers_its_best_checkpoint_then_its_last(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither best\.safetensors nor last\.safetensors"):
        find_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "last.safetensors", new_checkpoint())
    assert find_checkpoint(tmp_path) == tmp_path / "last.safetensors"
    save_checkpoint(tmp_path / "best.safetensors", new_checkpoint())
    assert find_checkpoint(tmp_path) == tmp_path / "best.safetensors"
    assert find_checkpoint(tmp_path / "last.safetensors") == tmp_path / "last.safetensors"
    with pytest.raises(CheckpointError, match=r"gone does not exist"):
        find_checkpoint(tmp_path / "gone")


def test_an_empty_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(DamagedCheckpointError, match=r"model\.safetensors is damaged"):
        load_checkpoint(path)


def test_no_flipped_bit_stays_unseen(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, new_checkpoint())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    # All of the header's beginning, some of its rest, and some of the tensors.
    for position in [*range(40), *rng.integers(40, len(whole), 400).tolist()]:
        broken = bytearray(whole)
        broken[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with pytest.raises(DamagedCheckpointError):
            load_checkpoint(path, with_training_state=True)


def test_damage_in_the_training_state_leaves_the_weights_of_use(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    mean = torch.full((1000,), 0.12345)
    save_checkpoint(path, new_checkpoint(training_state={"mean": mean}))
    content = path.read_bytes()
    path.write_bytes(content.replace(mean.numpy().tobytes(), (mean + 1.0).numpy().tobytes()))
    assert load_checkpoint(path).model == CONFIG
    with pytest.raises(DamagedCheckpointError, match="its tensors are not what was written"):
        load_checkpoint(path, with_training_state=True)
