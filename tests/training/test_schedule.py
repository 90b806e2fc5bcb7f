"""The learning rate over a run, against the trace of the system that vrtool descends from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vrtool.training.config import TrainingConfig
from vrtool.training.schedule import learning_rate, random_seed

TRACED = TrainingConfig(learning_rate=1e-3, final_learning_rate=1e-7, warmup_steps=50, decay_steps=200, decay_power=1.0)
# Rates that torch's scheduler chain of warm-up and polynomial decay was seen to set: {updates done: rate of the next}.
TRACE = {
    0: 1.9607843137254903e-05,
    1: 3.9215686274509805e-05,
    2: 5.882352941176471e-05,
    48: 0.0009607843137254903,
    49: 0.0009803921568627450,
    50: 0.001,
    51: 0.0009950005,
    52: 0.000990001,
    248: 1.009900000000001e-05,
    249: 5.099500000000004e-06,
    250: 1e-07,
    300: 1e-07,
}


@pytest.mark.parametrize(("step", "rate"), TRACE.items())
def test_the_rate_of_every_step_equals_the_traced_one(step: int, rate: float) -> None:
    assert learning_rate(step, TRACED) == pytest.approx(rate, rel=1e-9)


@given(warmup=st.integers(0, 50), decay=st.integers(1, 50), power=st.floats(0.5, 3.0), step=st.integers(0, 200))
def test_the_rate_rises_to_the_target_and_falls_to_the_final_rate(
    warmup: int, decay: int, power: float, step: int
) -> None:
    config = TrainingConfig(
        learning_rate=1e-2, final_learning_rate=1e-4, warmup_steps=warmup, decay_steps=decay, decay_power=power
    )
    here, there = learning_rate(step, config), learning_rate(step + 1, config)
    assert 0.0 < here <= 1e-2
    assert (there > here) if step < warmup else (there <= here)
    assert learning_rate(warmup, config) == pytest.approx(1e-2)
    assert learning_rate(warmup + decay, config) == pytest.approx(1e-4)


def test_the_cosine_decay_equals_torchs() -> None:
    config = TrainingConfig(
        learning_rate=1e-3, final_learning_rate=1e-5, warmup_steps=10, decay_steps=40, decay="cosine"
    )
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=40, eta_min=1e-5)
    for step in range(10, 51):
        assert learning_rate(step, config) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        scheduler.step()
    assert learning_rate(9, config) == pytest.approx(1e-3 * 10 / 11)
    assert learning_rate(1000, config) == pytest.approx(1e-5)


def test_every_batch_has_a_seed_of_its_own() -> None:
    seeds = {random_seed(batch, TrainingConfig(seed=seed)) for batch in range(100) for seed in range(100)}
    assert len(seeds) == 100 * 100
    assert random_seed(3, TrainingConfig(seed=1)) == random_seed(3, TrainingConfig(seed=1))
    assert all(0 <= seed < 2**63 for seed in seeds)
