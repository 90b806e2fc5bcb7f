"""What learns in a run: a network, its optimiser, the weights it is judged by, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from vrtool.dataset.cache import Cache
from vrtool.model import Network, build_model
from vrtool.model.acceleration import compile_network
from vrtool.model.checkpoint import Checkpoint
from vrtool.training.averaging import remembered_weights
from vrtool.training.batches import require_crops_that_fit
from vrtool.training.distributed import World
from vrtool.training.freezing import freeze
from vrtool.training.loading import DeviceBatches
from vrtool.training.losses import TrainingLoss
from vrtool.training.setup import TrainingSetup
from vrtool.training.starting import require_resumable, take_initial_weights
from vrtool.training.state import TrainingState
from vrtool.training.stopwatch import Stopwatch
from vrtool.training.update import Update, Updater

Found = tuple[Path, Checkpoint]
"""A checkpoint and where it is."""


class Learner:
    """Does a run's steps and counts them; knows nothing of folders, displays or validation.

    A new one begins with the weights of `initial`, if there are any, one that goes on with everything in `resumed`.
    Raises InputError if cache, recipe and weights do not go together.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        cache: Cache,
        loss: TrainingLoss,
        *,
        world: World,
        stopwatch: Stopwatch,
        resumed: Found | None,
        initial: Found | None,
        tell: Callable[[str], None],
    ) -> None:
        self._setup, self._cache = setup, cache
        config = setup.training
        torch.manual_seed(config.seed)
        self.network = build_model(setup.model)
        require_crops_that_fit(self.network, config)
        if initial is not None:
            take_initial_weights(self.network, *initial, cache, tell=tell)
        # What only training needs, in an order that counts.
        self.network.to(world.device).train()
        frozen_norms = freeze(self.network, config.freeze)
        # A copy of it, if there is one, is to have none of what follows.
        self._weights = remembered_weights(self.network, config.ema_decay)
        if config.recompute_activations:
            self.network.recompute_activations()
        if config.compile:
            compile_network(self.network)
        self._updater = Updater(self.network, loss, config, frozen_norms=frozen_norms, world=world, stopwatch=stopwatch)
        self.state = TrainingState()
        if resumed is not None:
            self._go_on_from(*resumed)
        self._before_bad_steps = replace(self.state)

    def _go_on_from(self, path: Path, checkpoint: Checkpoint) -> None:
        require_resumable(checkpoint, path, model=self._setup.model, network=self.network, cache=self._cache)
        self._weights.restore(checkpoint)
        self.state = TrainingState.restore(checkpoint)
        self._updater.restore(checkpoint.training_state)

    @property
    def judged(self) -> Network:
        """The network with the weights that validation and checkpoints take."""
        return self._weights.judged

    def step(self, batches: DeviceBatches) -> Update:
        """Do one update of the weights, or skip it if its gradients are not finite; count it either way."""
        state = self.state
        if not state.bad_steps_in_a_row:
            self._before_bad_steps = replace(state)
        update = self._updater.update(state.step, batches)
        state.step += 1
        if update.is_done:
            self._weights.update(state.num_updates)
        else:
            state.skipped_steps += 1
        state.bad_steps_in_a_row = state.bad_steps_in_a_row + 1 if update.is_bad else 0
        return update

    def go_back_before_bad_steps(self) -> None:
        """Forget the bad steps in a row, which have changed nothing but the counters."""
        self.state = replace(self._before_bad_steps, bad_steps_in_a_row=0)

    def checkpoint(self) -> Checkpoint:
        """Return all that is needed to use the network and to go on from here."""
        return Checkpoint(
            weights={name: tensor.detach().cpu() for name, tensor in self.judged.state_dict().items()},
            model=self._setup.model,
            stft=self._cache.stft,
            recipe=self._setup.recipe_text,
            progress=self.state.to_json(),
            card={},
            training_state=self._updater.training_state() | self._weights.training_state(),
        )
