"""Where time goes and how fast a run is, from steps of known lengths."""

from __future__ import annotations

import time

import pytest
import torch

from vrtool.training.config import TrainingConfig
from vrtool.training.meter import METER_STEPS, Meter
from vrtool.training.stopwatch import Phase, Stopwatch
from vrtool.training.update import Update

CONFIG = TrainingConfig(num_steps=1000, batch_size=4, accumulate_batches=2)
STEP: dict[Phase, float] = {"data": 0.1, "copy": 0.0, "forward": 0.3, "backward": 0.5, "optimiser": 0.1}


def update(loss: float = 1.0, *, is_done: bool = True) -> Update:
    return Update(
        loss=loss,
        loss_terms={"l1": loss},
        pass_losses=(loss,),
        gradient_norm=2.0,
        learning_rate=1e-3,
        is_done=is_done,
        is_overflow=False,
    )


def test_shares_sum_to_one_and_what_is_rare_is_spread_over_all_steps() -> None:
    meter = Meter(CONFIG)
    for number in range(10):
        meter.step(update(), STEP | ({"validation": 10.0} if number == 4 else {}))
    assert meter.time_shares == pytest.approx(
        {
            "data": 0.05,
            "copy": 0.0,
            "forward": 0.15,
            "backward": 0.25,
            "optimiser": 0.05,
            "validation": 0.5,
            "saving": 0,
        }
    )
    rates = meter.rates(10)
    assert rates is not None
    assert rates["examples_per_second"] == pytest.approx(8.0)
    assert rates["seconds_left"] == pytest.approx(990 * 2.0)


def test_means_are_over_the_last_steps_and_over_those_that_were_done() -> None:
    meter = Meter(CONFIG)
    meter.step(update(is_done=False, loss=float("nan")), STEP | {"data": 99.0})
    assert meter.rates(1) is None
    for number in range(METER_STEPS):
        assert not meter.is_settled
        meter.step(update(loss=float(number)), STEP)
    assert meter.is_settled
    rates = meter.rates(METER_STEPS + 1)
    assert rates is not None
    assert rates["time_shares"]["data"] == pytest.approx(0.1)
    assert rates["loss"] == rates["loss_terms"]["l1"] == pytest.approx((METER_STEPS - 1) / 2)


def test_a_stopwatch_counts_each_moment_for_one_phase() -> None:
    watch = Stopwatch(torch.device("cpu"))
    assert watch.read() == {}
    started = time.perf_counter()
    watch.enter("data")
    time.sleep(0.02)
    watch.enter("forward")
    watch.enter("data")
    time.sleep(0.01)
    watch.enter("backward")
    times = watch.read()
    assert times["data"] >= 0.03
    assert times["forward"] < 0.02
    time.sleep(0.02)
    rest = watch.read()
    assert rest.keys() == {"backward"}
    assert rest["backward"] >= 0.02
    assert sum(times.values()) + rest["backward"] <= time.perf_counter() - started
