"""The weights that a run is judged and remembered by: the newest, or their moving average."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from vrtool.model import Network
from vrtool.model.checkpoint import Checkpoint

NEWEST = "newest."
"""In a checkpoint's training state: the weights that the optimiser goes on with, where others are the checkpoint's."""


class NewestWeights:
    """Those that the optimiser has just made; `judged` is the network in training itself."""

    def __init__(self, network: Network) -> None:
        self._newest = network
        self.judged = network

    def update(self, num_updates: int) -> None:
        """Follow the network after its update number `num_updates`, counted from 1."""

    def training_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs beside the weights of `judged`."""
        return {}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back the network in training, whichever kind of weights the checkpoint was written with."""
        state = checkpoint.training_state
        newest = {name.removeprefix(NEWEST): tensor for name, tensor in state.items() if name.startswith(NEWEST)}
        self._newest.load_state_dict(newest or checkpoint.weights)


class AveragedWeights(NewestWeights):
    """An exponential moving average; `judged` is a network of its own that has it.

    Batch norm's statistics are averaged as the weights are, so that they belong to the same past; its counts of
    batches, like any whole number, are the newest.
    """

    def __init__(self, network: Network, decay: float) -> None:
        super().__init__(network)
        self._decay = decay
        self.judged = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Move the average towards the network after its update number `num_updates`, counted from 1."""
        decay = warm_decay(num_updates, self._decay)
        newest = self._newest.state_dict()
        for name, average in self.judged.state_dict().items():
            if average.is_floating_point():
                average.lerp_(newest[name], 1.0 - decay)
            else:
                average.copy_(newest[name])

    def training_state(self) -> dict[str, Tensor]:
        """Return the weights of the network in training."""
        return {NEWEST + name: tensor for name, tensor in self._newest.state_dict().items()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back the network in training and its average, which begins at the former where there was none."""
        super().restore(checkpoint)
        self.judged.load_state_dict(checkpoint.weights)


def warm_decay(num_updates: int, decay: float) -> float:
    """Return the share of the average that update number `num_updates`, counted from 1, leaves of it, in [0, 1).

    (1 + n) / (10 + n) as long as that is less than `decay`, so that the weights of the start are soon forgotten
    (TensorFlow's ExponentialMovingAverage, num_updates).
    """
    return min(decay, (1 + num_updates) / (10 + num_updates))


def remembered_weights(network: Network, ema_decay: float) -> NewestWeights:
    """Return what follows the network as the recipe wants: an average of this decay, 0 being none."""
    return AveragedWeights(network, ema_decay) if ema_decay else NewestWeights(network)
