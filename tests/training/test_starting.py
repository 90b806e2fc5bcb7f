"""Runs that begin with the weights of a model, and layers that stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vrtool.dataset.cache import Cache
from vrtool.errors import CacheError, CheckpointError, InputError, RecipeError
from vrtool.model import ModelConfig, build_model
from vrtool.model.checkpoint import load_checkpoint, save_checkpoint
from vrtool.training.freezing import freeze
from vrtool.training.setup import TrainingSetup
from vrtool.training.watcher import Watcher

MakeSetup = Callable[..., TrainingSetup]
TrainRun = Callable[..., int]
SaveNetwork = Callable[[Path, ModelConfig], Path]


@pytest.fixture
def model(make_setup: MakeSetup, save_network: SaveNetwork, tmp_path: Path) -> Path:
    """The checkpoint of an untrained network, other than the one that a run would draw."""
    path = save_network(tmp_path / "model.safetensors", make_setup().model)
    checkpoint = load_checkpoint(path)
    weights = {
        name: tensor + 0.01 if tensor.is_floating_point() else tensor for name, tensor in checkpoint.weights.items()
    }
    save_checkpoint(path, replace(checkpoint, weights=weights))
    return path


def with_model(setup: TrainingSetup, **changes: object) -> TrainingSetup:
    return replace(setup, model=replace(setup.model, **changes))  # type: ignore[arg-type]


def test_frozen_layers_keep_their_weights_and_statistics_and_others_learn(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, model: Path
) -> None:
    train_run(make_setup(freeze=("encoders.*",)), tmp_path / "run", initial=model)
    before = load_checkpoint(model).weights
    after = load_checkpoint(tmp_path / "run" / "last.safetensors", with_training_state=True)
    frozen = [name for name in before if name.startswith("encoders.")]
    assert any("running_mean" in name for name in frozen)
    assert all(torch.equal(before[name], after.weights[name]) for name in frozen)
    assert any(not torch.equal(before[name], after.weights[name]) for name in before if name not in frozen)
    assert not [name for name in after.training_state if name.startswith("optimiser.encoders.")]


def test_frozen_layers_stay_frozen_on_resuming(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, model: Path
) -> None:
    setup = make_setup(freeze=("encoders.*", "*.bias"), ema_decay=0.0)
    train_run(setup, tmp_path / "whole", initial=model)
    train_run(replace(setup, training=replace(setup.training, num_steps=3)), tmp_path / "run", initial=model)
    train_run(setup, tmp_path / "run", resume=True)
    whole, run = (load_checkpoint(tmp_path / name / "last.safetensors").weights for name in ("whole", "run"))
    assert all(torch.equal(whole[name], run[name]) for name in whole)


def test_a_run_begins_with_the_best_weights_of_another(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path
) -> None:
    train_run(make_setup(), tmp_path / "first")
    # So small a rate changes no weight but by what rounding hides; statistics are frozen with their layers.
    setup = make_setup(num_steps=1, learning_rate=1e-30, final_learning_rate=0.0, freeze=("*norm*",), ema_decay=0.0)
    train_run(setup, tmp_path / "second", initial=tmp_path / "first")
    best = load_checkpoint(tmp_path / "first" / "best.safetensors").weights
    second = load_checkpoint(tmp_path / "second" / "last.safetensors").weights
    assert all(torch.equal(second[name], tensor) for name, tensor in best.items())


def test_weights_of_other_sizes_are_refused_with_both_shapes(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, model: Path
) -> None:
    other = with_model(make_setup(), channels=2)
    expected = next(
        (name, tuple(tensor.shape), tuple(load_checkpoint(model).weights[name].shape))
        for name, tensor in build_model(other.model).state_dict().items()
        if tensor.shape != load_checkpoint(model).weights[name].shape
    )
    with pytest.raises(CheckpointError) as raised:
        train_run(other, tmp_path / "run", initial=model)
    assert f"{expected[0]} has shape {expected[2]} instead of {expected[1]}" in str(raised.value)
    assert str(model) in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_architecture_are_refused(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, model: Path
) -> None:
    other = with_model(make_setup(), architecture="frame_transformer")
    with pytest.raises(CheckpointError, match="architecture 'unet', the recipe says 'frame_transformer'"):
        train_run(other, tmp_path / "run", initial=model)


def test_weights_trained_at_another_rate_are_refused(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, model: Path, divided_cache: Cache
) -> None:
    checkpoint = load_checkpoint(model)
    save_checkpoint(model, replace(checkpoint, stft=replace(divided_cache.stft, sample_rate=16000)))
    with pytest.raises(CacheError, match=r"sample_rate 8000, .*model\.safetensors was trained on 16000"):
        train_run(make_setup(), tmp_path / "run", initial=model)


def test_weights_trained_with_another_hop_may_get_used_to_the_caches_and_it_is_told(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, model: Path, divided_cache: Cache
) -> None:
    checkpoint = load_checkpoint(model)
    save_checkpoint(model, replace(checkpoint, stft=replace(divided_cache.stft, hop_length=64)))
    notices: list[str] = []
    train_run(make_setup(num_steps=1), tmp_path / "run", initial=model, watcher=Watcher(on_notice=notices.append))
    assert notices == [f"{model} was trained with hop_length 64, the cache has 128"]
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").stft == divided_cache.stft


def test_settings_that_differ_without_changing_a_shape_are_told(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, model: Path
) -> None:
    notices: list[str] = []
    setup = with_model(make_setup(num_steps=1), compression=0.5)
    train_run(setup, tmp_path / "run", initial=model, watcher=Watcher(on_notice=notices.append))
    assert notices == [f"{model} was trained with compression 0.3, the recipe says 0.5"]


def test_a_run_is_not_begun_and_resumed_at_once(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, model: Path
) -> None:
    with pytest.raises(InputError, match=r"--resume goes on .* --from begins a new run"):
        train_run(make_setup(), tmp_path / "run", initial=model, resume=True)


def test_a_pattern_that_matches_nothing_and_one_that_matches_all_are_refused(make_setup: MakeSetup) -> None:
    network = build_model(make_setup().model)
    with pytest.raises(RecipeError, match=r"freeze 'encodes\.\*' matches none .* begin with .*encoders"):
        freeze(network, ["encoders.*", "encodes.*"])
    with pytest.raises(RecipeError, match="leaves nothing to train"):
        freeze(network, ["*"])
