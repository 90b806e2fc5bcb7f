"""The recipe's optimiser and the scaler of float16's gradients, and what checkpoints keep of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vrtool.training.config import TrainingConfig

ADAM_EPSILON = 1e-12
"""Far below the gradients of an L1 loss on magnitudes, 1e-8 to 1e-6 each: torch's 1e-8 would damp most updates."""
OPTIMISER, SCALER = "optimiser.", "scaler."
"""What the names of a checkpoint's tensors begin with."""


def make_optimiser(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; weight decay spares norms and biases, which have no scale to lose."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    decayed = [weight for weight in weights if weight.ndim > 1]
    others = [weight for weight in weights if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimisers: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return optimisers[config.optimiser](groups, lr=config.learning_rate, eps=ADAM_EPSILON, fused=True)


def optimiser_tensors(optimiser: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """Return the optimiser's moments, named after their weights."""
    return {
        f"{OPTIMISER}{name}.{key}": value.detach().cpu()
        for name, weight in network.named_parameters()
        for key, value in optimiser.state[weight].items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back the moments that `optimiser_tensors` returned."""
    state: dict[Tensor, dict[str, Tensor]] = {}
    for name, weight in network.named_parameters():
        prefix = f"{OPTIMISER}{name}."
        entries = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if entries:
            state[weight] = {key: value.to(weight.device) for key, value in entries.items()}
    optimiser.state.update(state)


def scaler_tensors(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """Return the numbers of the gradient scaler, none if it is not in use."""
    return {SCALER + name: torch.tensor(value, dtype=torch.float64) for name, value in scaler.state_dict().items()}


def restore_scaler(scaler: torch.amp.GradScaler, tensors: Mapping[str, Tensor]) -> None:
    """Put back the numbers that `scaler_tensors` returned; without any, the scaler begins anew."""
    names = scaler.state_dict().keys() & {name.removeprefix(SCALER) for name in tensors}
    if names:
        numbers = {name: float(tensors[SCALER + name]) for name in names}
        scaler.load_state_dict({name: int(value) if value.is_integer() else value for name, value in numbers.items()})
