"""One update of a network's weights: gradients of all that a step is to see, summed up, clipped and applied."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vrtool.model import Network
from vrtool.model.acceleration import autocast
from vrtool.training.config import TrainingConfig
from vrtool.training.distributed import World
from vrtool.training.loading import DeviceBatches
from vrtool.training.losses import TrainingLoss, Truth
from vrtool.training.norms import merge_norms
from vrtool.training.optimiser import (
    make_optimiser,
    optimiser_tensors,
    restore_optimiser,
    restore_scaler,
    scaler_tensors,
)
from vrtool.training.schedule import learning_rate, random_seed
from vrtool.training.stopwatch import Stopwatch

SMALLEST_LOSS_SCALE = 1.0
"""Gradients of float16 that overflow without being scaled up are not the scale's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What became of a step: an update, or, where gradients or loss were not finite, the weights as they were."""

    loss: float
    loss_terms: dict[str, float]
    """Each before it was weighted."""
    pass_losses: tuple[float, ...]
    gradient_norm: float
    learning_rate: float
    is_done: bool
    is_overflow: bool
    """Nothing is wrong, but float16's gradients were scaled up too far; they are scaled up less from now on."""

    @property
    def is_bad(self) -> bool:
        """Whether something is wrong: with the weights, the data or the recipe."""
        return not self.is_done and not self.is_overflow


class Updater:
    """Does the steps of a run, of whose passes other processes may do some; owns optimiser and gradient scaler."""

    def __init__(
        self,
        network: Network,
        loss: TrainingLoss,
        config: TrainingConfig,
        *,
        frozen_norms: Sequence[nn.Module],
        world: World,
        stopwatch: Stopwatch,
    ) -> None:
        self._network, self._loss, self._config, self._world = network, loss, config, world
        self._frozen_norms, self._stopwatch = frozen_norms, stopwatch
        self._optimiser = make_optimiser(network, config)
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=config.precision == "float16")
        self._pass: nn.Module = _TrainingPass(network)
        if world.size > 1:
            self._pass = _shared(self._pass)

    def update(self, step: int, batches: DeviceBatches) -> Update:
        """Do step number `step`, counted from 0, with the next batches; a step that fails leaves all as it was."""
        config = self._config
        rate = learning_rate(step, config)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        for frozen in self._frozen_norms:
            frozen.eval()
        before = [buffer.clone() for buffer in self._network.buffers()]
        sums = self._passes(step, batches)
        self._stopwatch.enter("optimiser")
        merge_norms(self._network, before, config.accumulate_batches, self._world)
        self._scaler.unscale_(self._optimiser)
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), config.clip_gradient_norm or math.inf)
        # All that is to be known in one go, for which a GPU is waited for. The norm is everybody's already, but where
        # processors round differently not to the last bit: what is decided by it has to be the same everywhere.
        found = self._world.sum(torch.cat([sums, norm.reshape(1) / self._world.size])).tolist()
        losses, terms = found[: config.accumulate_batches], found[config.accumulate_batches : -1]
        loss, gradient_norm = sum(losses) / len(losses), found[-1]
        is_done = math.isfinite(loss) and math.isfinite(gradient_norm)
        is_overflow = not is_done and math.isfinite(loss) and self._is_scaled_up
        if is_done:
            self._scaler.step(self._optimiser)
        else:
            for buffer, old in zip(self._network.buffers(), before, strict=True):
                buffer.copy_(old)
        self._adapt_scale(is_done=is_done, is_overflow=is_overflow)
        return Update(
            loss=loss,
            loss_terms=dict(zip(self._loss.names, terms, strict=True)),
            pass_losses=tuple(losses),
            gradient_norm=gradient_norm,
            learning_rate=rate,
            is_done=is_done,
            is_overflow=is_overflow,
        )

    @property
    def _is_scaled_up(self) -> bool:
        return self._scaler.is_enabled() and self._scaler.get_scale() > SMALLEST_LOSS_SCALE

    def _adapt_scale(self, *, is_done: bool, is_overflow: bool) -> None:
        """Let the scale of float16's gradients grow in its time, or fall after an overflow."""
        if is_done:
            self._scaler.update()
            return
        # Of overflows the scaler knows those of single gradients, not that of their norm; and a step that is bad in
        # itself tells nothing of the scale.
        factor = self._scaler.get_backoff_factor() if is_overflow else 1.0
        self._scaler.update(self._scaler.get_scale() * factor)

    def training_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs to go on with the same updates."""
        return optimiser_tensors(self._optimiser, self._network) | scaler_tensors(self._scaler)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `training_state` returned."""
        restore_optimiser(self._optimiser, self._network, tensors)
        restore_scaler(self._scaler, tensors)

    def _passes(self, step: int, batches: DeviceBatches) -> Tensor:
        """Do this process's passes; return the losses of all passes, of which others are 0, and the mean terms."""
        num_passes = self._config.accumulate_batches
        losses = torch.zeros(num_passes, device=self._world.device)
        terms = torch.zeros(len(self._loss.names), device=self._world.device)
        own = self._world.own_share(num_passes)
        for number in own:
            torch.manual_seed(random_seed(step * num_passes + number, self._config))
            truth = Truth(batches.take())
            with self._unsynchronised() if number != own[-1] else nullcontext():
                self._stopwatch.enter("forward")
                with autocast(self._world.device, self._config.precision):
                    mask = self._pass(truth.mixture, truth.instrumental)
                total, values = self._loss(mask.float(), truth)
                self._stopwatch.enter("backward")
                # Processes' gradients are averaged, passes' are to be.
                self._scaler.scale(total * (self._world.size / num_passes)).backward()  # type: ignore[no-untyped-call]
            batches.prefetch()
            losses[number] = total.detach()
            terms += values / num_passes
        return torch.cat([losses, terms])

    def _unsynchronised(self) -> AbstractContextManager[None]:
        """Return the context in which gradients stay in this process: there is more to come before they are of use."""
        return self._pass.no_sync() if isinstance(self._pass, DistributedDataParallel) else nullcontext()


def _shared(training_pass: nn.Module) -> DistributedDataParallel:
    """Return what averages the gradients of all processes on the way back."""
    with warnings.catch_warnings():
        # torch 2.13 has a new name for it, which older ones do not know.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        # Statistics of norms are merged by ourselves: torch would take those of the main process for everybody's.
        return DistributedDataParallel(training_pass, broadcast_buffers=False, gradient_as_bucket_view=True)


class _TrainingPass(nn.Module):
    """A network as it trains: its `training_mask` as a module's `forward`, the one call that torch shares out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, mixture: Tensor, instrumental: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) that training judges."""
        return self.network.training_mask(mixture, instrumental)
