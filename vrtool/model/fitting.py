"""Whether weights are those of a network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vrtool.errors import CheckpointError, RecipeError
from vrtool.model.config import ModelConfig
from vrtool.model.network import Network
from vrtool.model.registry import build_model


def require_network(weights: Mapping[str, Tensor], config: ModelConfig, owner: str) -> Network:
    """Return the network that `config` describes, without memory, once `weights` are known to fit it.

    Raises CheckpointError, about `owner`, if it cannot be built or names or shapes of its weights are others.
    """
    try:
        # On no device: drawing starting weights only to overwrite them takes seconds in a large network.
        with torch.device("meta"):
            network = build_model(config)
    except RecipeError as error:
        raise CheckpointError(f"{owner} describes a network that this vrtool cannot build: {error}") from error
    misfits = describe_misfits(weights, network)
    if misfits:
        raise CheckpointError(f"{owner} does not hold the weights of the network it describes: {misfits}")
    return network


def describe_misfits(weights: Mapping[str, Tensor], network: Network) -> str:
    """Return in words which `weights` are not those of the network, with both shapes; nothing if all fit."""
    expected = network.state_dict()
    misfits = [
        f"{name} is missing" if name not in weights else f"{name} is unknown"
        for name in sorted(expected.keys() ^ weights.keys())
    ]
    misfits += [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    more = f", and {len(misfits) - 3} more like that" if len(misfits) > 3 else ""
    return ", ".join(misfits[:3]) + more
