"""What changes as a run goes on besides the weights: counters, the optimiser, random numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch

from vrtool.errors import CheckpointError
from vrtool.model.checkpoint import Checkpoint
from vrtool.training.config import TrainingConfig

RANDOM_STATE = "random_state.cpu"
CUDA_RANDOM_STATE = "random_state.cuda"
ADAM_EPSILON = 1e-12
"""Far below the gradients of an L1 loss on magnitudes, 1e-8 to 1e-6 each: torch's 1e-8 would damp most updates."""


def make_optimiser(network: torch.nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; weight decay spares norms and biases, which have no scale to lose."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    decayed = [weight for weight in weights if weight.ndim > 1]
    others = [weight for weight in weights if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimisers: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return optimisers[config.optimiser](groups, lr=config.learning_rate, eps=ADAM_EPSILON, fused=True)


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """Counters of a run; skipped and bad are steps whose gradients were not finite."""

    step: int = 0
    best_loss: float = math.inf
    """Of validation: that of the best checkpoint."""
    validations_without_gain: int = 0
    """In a row."""
    skipped_steps: int = 0
    bad_steps_in_a_row: int = 0

    @property
    def num_updates(self) -> int:
        """Steps that have changed the weights."""
        return self.step - self.skipped_steps

    def take_loss(self, loss: float) -> bool:
        """Take note of a validation's loss and return whether it is the lowest so far."""
        is_best = loss < self.best_loss
        self.best_loss = loss if is_best else self.best_loss
        self.validations_without_gain = 0 if is_best else self.validations_without_gain + 1
        return is_best

    def to_json(self) -> dict[str, Any]:
        """Return the counters that a checkpoint's progress carries."""
        return {
            "step": self.step,
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "validations_without_gain": self.validations_without_gain,
            "skipped_steps": self.skipped_steps,
            "bad_steps_in_a_row": self.bad_steps_in_a_row,
        }

    def tensors(self, optimiser: torch.optim.Optimizer, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Return the optimiser's moments, named after their weights, and the state of the random generators."""
        tensors = {
            f"optimiser.{name}.{key}": value.detach().cpu()
            for name, weight in network.named_parameters()
            for key, value in optimiser.state[weight].items()
        }
        tensors[RANDOM_STATE] = torch.get_rng_state()
        device = _device_of(network)
        if device.type == "cuda":
            tensors[CUDA_RANDOM_STATE] = torch.cuda.get_rng_state(device)
        return tensors

    @classmethod
    def restore(cls, checkpoint: Checkpoint, optimiser: torch.optim.Optimizer, network: torch.nn.Module) -> Self:
        """Return a checkpoint's counters after putting back its optimiser and random states.

        Raises CheckpointError if the checkpoint was not written to be resumed.
        """
        tensors = checkpoint.training_state
        if RANDOM_STATE not in tensors:
            raise CheckpointError("the run's last checkpoint holds weights alone, so there is nothing to resume from")
        state: dict[torch.Tensor, dict[str, torch.Tensor]] = {}
        for name, weight in network.named_parameters():
            prefix = f"optimiser.{name}."
            entries = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if entries:
                state[weight] = {key: value.to(weight.device) for key, value in entries.items()}
        optimiser.state.update(state)
        torch.set_rng_state(tensors[RANDOM_STATE])
        device = _device_of(network)
        if CUDA_RANDOM_STATE in tensors and device.type == "cuda":
            torch.cuda.set_rng_state(tensors[CUDA_RANDOM_STATE], device)
        best = checkpoint.progress.get("best_loss")
        return cls(
            step=_count(checkpoint, "step"),
            best_loss=float(best) if isinstance(best, (int, float)) else math.inf,
            skipped_steps=_count(checkpoint, "skipped_steps"),
            # Checkpoints of format version 1 do not tell these.
            validations_without_gain=_count(checkpoint, "validations_without_gain", 0),
            bad_steps_in_a_row=_count(checkpoint, "bad_steps_in_a_row", 0),
        )


def _device_of(network: torch.nn.Module) -> torch.device:
    return next(network.parameters()).device


def _count(checkpoint: Checkpoint, name: str, default: int | None = None) -> int:
    value = checkpoint.progress.get(name, default)
    if not isinstance(value, int):
        raise CheckpointError(f"the run's last checkpoint does not tell its {name}, expected a number, found {value!r}")
    return value
