"""Layers that training leaves as they are."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from vrtool.errors import RecipeError


def freeze(network: nn.Module, patterns: Sequence[str]) -> list[nn.BatchNorm2d]:
    """Keep training from all parameters whose names match a pattern, and return the batch norms among their owners.

    These are to stay in evaluation mode, in which they neither use a batch's statistics nor change their own. Raises
    RecipeError for a pattern that matches nothing, and if nothing is left to train.
    """
    parameters = dict(network.named_parameters())
    for pattern in patterns:
        matching = [name for name in parameters if fnmatchcase(name, pattern)]
        if not matching:
            parts = sorted({name.partition(".")[0] for name in parameters})
            raise RecipeError(
                f"[training] freeze {pattern!r} matches none of the network's parameters, which are named such as "
                f"{next(iter(parameters))!r} and begin with {', '.join(parts)}"
            )
        for name in matching:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise RecipeError(f"[training] freeze = {list(patterns)} leaves nothing to train")
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return [norm for norm in norms if not any(parameter.requires_grad for parameter in norm.parameters())]
