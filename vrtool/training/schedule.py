"""The learning rate as a function of the step alone, so that a resumed run needs no state to go on with it."""

from __future__ import annotations

from vrtool.training.config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the rate of update number `step`, counted from 0.

    It rises linearly from 1 / (warmup_steps + 1) of the target, which it reaches with step `warmup_steps`, then falls
    as (1 - share of the decay) ** decay_power to the final rate and stays there.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    remaining = max(0.0, 1.0 - (step - config.warmup_steps) / config.decay_steps)
    span = config.learning_rate - config.final_learning_rate
    return float(span * remaining**config.decay_power + config.final_learning_rate)
