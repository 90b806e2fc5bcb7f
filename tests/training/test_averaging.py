"""The moving average of weights, against its formula, and in a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vrtool.model import ModelConfig, build_model
from vrtool.model.checkpoint import load_checkpoint
from vrtool.training.averaging import NEWEST, AveragedWeights, remembered_weights, warm_decay
from vrtool.training.setup import TrainingSetup

CONFIG = ModelConfig(architecture="unet", n_fft=256, channels=1)


def test_the_decay_grows_from_little_to_what_the_recipe_says() -> None:
    assert warm_decay(1, 0.999) == pytest.approx(2 / 11)
    assert warm_decay(90, 0.999) == pytest.approx(0.91)
    assert warm_decay(100_000, 0.999) == 0.999
    assert warm_decay(1, 0.1) == 0.1


def test_the_average_is_the_weighted_sum_of_all_weights_seen_statistics_included() -> None:
    network = build_model(CONFIG)
    remembered = AveragedWeights(network, 0.5)
    expected = {name: tensor.double() for name, tensor in network.state_dict().items()}
    for number in range(1, 9):
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.add_(torch.tensor(number).to(tensor.dtype))
        decay = warm_decay(number, 0.5)
        for name, tensor in network.state_dict().items():
            mixed = decay * expected[name] + (1.0 - decay) * tensor.double()
            expected[name] = mixed if tensor.is_floating_point() else tensor.double()
        remembered.update(number)
    averaged = remembered.judged.state_dict()
    assert any("running_var" in name for name in averaged)
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-5)
        if "num_batches_tracked" in name:
            assert tensor == network.state_dict()[name]


def test_without_a_decay_the_network_itself_is_judged() -> None:
    network = build_model(CONFIG)
    assert remembered_weights(network, 0.0).judged is network


def test_a_run_is_judged_and_remembered_by_its_average(
    make_setup: Callable[..., TrainingSetup], train_run: Callable[..., int], tmp_path: Path
) -> None:
    train_run(make_setup(), tmp_path / "averaged")
    train_run(make_setup(ema_decay=0.0), tmp_path / "newest")
    averaged, newest = (
        load_checkpoint(tmp_path / name / "last.safetensors", with_training_state=True)
        for name in ("averaged", "newest")
    )
    # The optimiser goes on with the same weights, whether or not they are averaged.
    for name, tensor in newest.weights.items():
        assert torch.equal(averaged.training_state[NEWEST + name], tensor)
    assert any(not torch.equal(averaged.weights[name], tensor) for name, tensor in newest.weights.items())
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("averaged", "newest")]
    losses = [[line["loss"] for line in map(json.loads, log) if line["kind"] == "validation"] for log in logs]
    assert losses[0] != losses[1]
    best = load_checkpoint(tmp_path / "averaged" / "best.safetensors")
    if best.progress["step"] == 6:
        assert all(torch.equal(best.weights[name], averaged.weights[name]) for name in best.weights)


@pytest.mark.parametrize(("before", "after"), [(0.7, 0.0), (0.0, 0.7)])
def test_averaging_begins_or_ends_with_a_resumed_run(
    make_setup: Callable[..., TrainingSetup],
    train_run: Callable[..., int],
    tmp_path: Path,
    before: float,
    after: float,
) -> None:
    train_run(make_setup(), tmp_path / "whole")
    train_run(make_setup(num_steps=3, ema_decay=before), tmp_path / "run")
    train_run(make_setup(ema_decay=after), tmp_path / "run", resume=True)
    whole, run = (
        load_checkpoint(tmp_path / name / "last.safetensors", with_training_state=True) for name in ("whole", "run")
    )
    for name, tensor in run.weights.items():
        newest = run.training_state[NEWEST + name] if after else tensor
        assert torch.equal(newest, whole.training_state[NEWEST + name])
