"""What is a function of the step alone, so that a resumed run, or another process, needs no state to go on with it."""

from __future__ import annotations

import math

import numpy as np

from vrtool.training.config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the rate of update number `step`, counted from 0.

    It rises linearly from 1 / (warmup_steps + 1) of the target, which it reaches with step `warmup_steps`, then falls
    to the final rate and stays there.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    remaining = max(0.0, 1.0 - (step - config.warmup_steps) / config.decay_steps)
    span = config.learning_rate - config.final_learning_rate
    return float(span * _height(remaining, config) + config.final_learning_rate)


def _height(remaining: float, config: TrainingConfig) -> float:
    """Return how far the rate is above the final one, from 1 to 0, where this share of the decay remains."""
    if config.decay == "cosine":
        # Half a wave (Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts).
        return 0.5 - 0.5 * math.cos(math.pi * remaining)
    return float(remaining**config.decay_power)


def random_seed(batch: int, config: TrainingConfig) -> int:
    """Return what to seed torch with before batch number `batch` passes the network, whichever process does it.

    Dropout then depends on the recipe's seed and the batch alone, as the batch itself does: a run that is resumed, or
    shared among processes, draws what it would have drawn undisturbed.
    """
    # A sequence of seeds keeps numbers apart that differ by a bit, which a sum or a product of them would not.
    return int(np.random.SeedSequence([config.seed, batch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
