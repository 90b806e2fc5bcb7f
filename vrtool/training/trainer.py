"""The training loop: batches in, better weights out, and nothing lost on the way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.dataset.cache import Cache
from vrtool.dataset.examples import ExampleBuilder
from vrtool.errors import InputError, InterruptedRunError, JobError
from vrtool.model import ModelConfig, Network, build_model
from vrtool.model.acceleration import autocast, compile_network
from vrtool.model.checkpoint import Checkpoint
from vrtool.training.averaging import remembered_weights
from vrtool.training.batches import require_crops_that_fit, training_batches
from vrtool.training.config import TrainingConfig
from vrtool.training.freezing import freeze
from vrtool.training.loading import load_batches
from vrtool.training.losses import TrainingLoss, Truth
from vrtool.training.meter import Meter, timed
from vrtool.training.run_folder import RunFolder
from vrtool.training.saving import Saver
from vrtool.training.schedule import learning_rate
from vrtool.training.session import describe_session, timestamp
from vrtool.training.starting import load_initial_weights, require_resumable
from vrtool.training.state import TrainingState, make_optimiser
from vrtool.training.validation import ValidationResult, ValidationSet, validation_set

MAX_BAD_STEPS = 3
"""Steps in a row without finite gradients after which a run has no future."""
METRICS_EVERY_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetup:
    """What a run is made from: the recipe's parts and its text, for the checkpoints."""

    recipe_text: str
    model: ModelConfig
    augmentation: AugmentationConfig
    training: TrainingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step of a run, for whoever watches: rates are means over the last steps, times in seconds."""

    step: int
    num_steps: int
    loss: float
    """The weighted sum of `loss_terms`, each of which stands there before it was weighted."""
    loss_terms: dict[str, float]
    learning_rate: float
    gradient_norm: float
    examples_per_second: float
    data_wait_share: float
    seconds_left: float
    num_skipped_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Whom a run tells what happens, and whom it asks after every step whether to stop.

    `on_network` is lent the network that was judged, after each validation: it may be used, even in evaluation mode.
    """

    on_step: Callable[[StepReport], None] = lambda _: None
    on_validation: Callable[[int, ValidationResult], None] = lambda *_: None
    on_notice: Callable[[str], None] = lambda _: None
    """A sentence about what did not go as planned, or why the run ends early."""
    on_network: Callable[[int, Network], None] = lambda *_: None
    stop_asked: Callable[[], bool] = lambda: False


def train(
    setup: TrainingSetup,
    cache: Cache,
    folder: RunFolder,
    *,
    device: torch.device,
    resume: bool = False,
    initial: Path | None = None,
    watcher: Watcher | None = None,
) -> int:
    """Train a network on a cache until the recipe's last step, or out of patience, and return that step's number.

    A new run begins with the weights of `initial`, a checkpoint or a run folder, where given. Raises InputError if
    cache, recipe, run folder and weights do not go together, InterruptedRunError when asked to stop, after a
    checkpoint, and JobError when training has diverged or its last checkpoint cannot be saved.
    """
    if resume and initial is not None:
        raise InputError("--resume goes on with the run's own weights, --from begins a new run; leave one of them out")
    trainer = Trainer(setup, cache, folder, device=device, resume=resume, initial=initial, watcher=watcher or Watcher())
    return trainer.run()


class Trainer:
    """The state of a run and the loop over its steps."""

    def __init__(
        self,
        setup: TrainingSetup,
        cache: Cache,
        folder: RunFolder,
        *,
        device: torch.device,
        resume: bool,
        initial: Path | None,
        watcher: Watcher,
    ) -> None:
        self._setup, self._cache, self._folder, self._device, self._watcher = setup, cache, folder, device, watcher
        config = setup.training
        self._saver = Saver(folder, num_kept=config.keep_checkpoints, tell=watcher.on_notice)
        builder = ExampleBuilder(tracks={track.key: track for track in cache.tracks}, stft=cache.stft)
        self._loss = TrainingLoss(config.losses, cache.stft, config.stft_loss_n_fft)
        self._batches = training_batches(
            cache,
            builder,
            model=setup.model,
            augmentation=setup.augmentation,
            config=config,
            content=self._loss.content,
        )
        self._validation: ValidationSet = validation_set(
            cache,
            builder,
            crop_frames=config.crop_frames,
            num_examples=config.num_validation_examples,
            # As many as fit into memory with all that a step keeps.
            batch_size=config.batch_size,
        )
        torch.manual_seed(config.seed)
        self._network = build_model(setup.model)
        require_crops_that_fit(self._network, config)
        self._loss.require_crop(min(config.crop_lengths))
        if initial is not None:
            load_initial_weights(self._network, initial, cache, tell=watcher.on_notice)
        self._network.to(device).train()
        self._frozen_norms = freeze(self._network, config.freeze)
        # Before anything is done to the network that only training needs.
        self._weights = remembered_weights(self._network, config.ema_decay)
        if config.recompute_activations:
            self._network.recompute_activations()
        if config.compile:
            compile_network(self._network)
        self._optimiser = make_optimiser(self._network, config)
        self._state = TrainingState()
        if resume:
            self._resume()
        else:
            folder.start(setup.recipe_text)

    def _resume(self) -> None:
        path, checkpoint = self._folder.resume(tell=self._watcher.on_notice)
        require_resumable(checkpoint, path, model=self._setup.model, network=self._network, cache=self._cache)
        self._folder.write_recipe(self._setup.recipe_text)
        self._weights.restore(checkpoint)
        self._state = TrainingState.restore(checkpoint, self._optimiser, self._network)
        self._folder.drop_metrics_after(self._state.step)

    def run(self) -> int:
        """Train until the recipe's last step, or out of patience; return the number of the last step done."""
        config = self._setup.training
        per_step = config.accumulate_batches
        numbers = range(self._state.step * per_step, config.num_steps * per_step)
        batches_to_come = load_batches(
            self._batches,
            numbers,
            num_workers=config.num_loader_workers,
            pin_memory=self._device.type == "cuda",
        )
        self._meter = Meter(config)
        self._saver.log(describe_session(self._state.step, cache=self._cache.path, device=self._device))
        with contextlib.closing(timed(batches_to_come, self._meter)) as batches:
            while not self._is_over():
                self._step(batches)
                self._after_step()
        return self._state.step

    def _step(self, batches: Iterator[torch.Tensor]) -> None:
        """Do one update of the weights, or skip it if its gradients are not finite."""
        config = self._setup.training
        rate = learning_rate(self._state.step, config)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        for frozen in self._frozen_norms:
            frozen.eval()
        statistics = [buffer.clone() for buffer in self._network.buffers()]
        loss, terms = torch.zeros((), device=self._device), torch.zeros(len(self._loss.names), device=self._device)
        for _ in range(config.accumulate_batches):
            truth = Truth(next(batches).to(self._device, non_blocking=True))
            with autocast(self._device, config.precision):
                mask = self._network.training_mask(truth.mixture, truth.instrumental)
            total, values = self._loss(mask.float(), truth)
            part = total / config.accumulate_batches
            part.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
            loss += part.detach()
            terms += values / config.accumulate_batches
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), config.clip_gradient_norm or float("inf"))
        self._state.step += 1
        if bool(torch.isfinite(norm)) and bool(torch.isfinite(loss)):
            self._optimiser.step()
            self._state.bad_steps_in_a_row = 0
            self._weights.update(self._state.num_updates)
            loss_terms = dict(zip(self._loss.names, terms.tolist(), strict=True))
            self._meter.step(float(loss), rate, float(norm), loss_terms)
        else:
            self._skip_step(statistics)

    def _skip_step(self, statistics: list[torch.Tensor]) -> None:
        """Leave the network, batch norm's statistics included, as it was before a step without finite gradients."""
        for buffer, before in zip(self._network.buffers(), statistics, strict=True):
            buffer.copy_(before)
        self._state.skipped_steps += 1
        self._state.bad_steps_in_a_row += 1

    def _after_step(self) -> None:
        """Report, validate, save: whatever is due after the step just done."""
        config, state = self._setup.training, self._state
        is_last = state.step == config.num_steps
        self._report(to_metrics=state.step % METRICS_EVERY_STEPS == 0 or is_last)
        if state.bad_steps_in_a_row >= MAX_BAD_STEPS:
            raise JobError(
                f"step {state.step}: no finite gradients {MAX_BAD_STEPS} times in a row; lower training.learning_rate "
                "and start again, or go on from the last checkpoint, if there is one, with --resume"
            )
        is_best = False
        if state.step % config.validate_every_steps == 0 or is_last:
            is_best = self._validate()
        is_over = self._is_over()
        stop = self._watcher.stop_asked() and not is_over
        if is_best or stop or is_over or state.step % config.checkpoint_every_steps == 0:
            is_saved = self._saver.save(self._checkpoint(), step=state.step)
            if is_over and not is_saved:
                raise JobError(
                    f"{self._folder.path}: step {state.step}, the last one, could not be saved; free some space and do "
                    "the steps since the checkpoint before again with the same command and --resume"
                )
        if is_over and not is_last:
            self._watcher.on_notice(
                f"step {state.step:,}: {state.validations_without_gain} validations in a row without a loss below "
                f"{state.best_loss:.6f}; the run ends here, as [training] patience says"
            )
        if stop:
            raise InterruptedRunError(
                f"stopped after step {state.step} of {config.num_steps}; go on with the same command and --resume"
            )

    def _is_over(self) -> bool:
        """Tell whether the last step is done, or as many validations have seen no gain as the recipe has patience."""
        config, state = self._setup.training, self._state
        return state.step >= config.num_steps or 0 < config.patience <= state.validations_without_gain

    def _report(self, *, to_metrics: bool) -> None:
        rates = self._meter.rates(self._state.step)
        if rates is None:
            return
        report = StepReport(
            step=self._state.step,
            num_steps=self._setup.training.num_steps,
            num_skipped_steps=self._state.skipped_steps,
            **rates,
        )
        self._watcher.on_step(report)
        if to_metrics:
            self._saver.log({"kind": "training", "time": timestamp(), **asdict(report)})

    def _validate(self) -> bool:
        """Judge the network, log it and keep it if it is the best so far; return whether it is."""
        started = time.perf_counter()
        result = self._validation.judge(self._weights.judged, self._device)
        self._watcher.on_network(self._state.step, self._weights.judged)
        self._network.train()
        self._meter.pause(time.perf_counter() - started)
        if result is None:
            # With nothing to judge by, the newest is taken for the best.
            self._saver.save_best(self._checkpoint(), step=self._state.step)
            return True
        self._watcher.on_validation(self._state.step, result)
        self._saver.log({"kind": "validation", "step": self._state.step, **asdict(result)})
        lowest_before = self._state.best_loss
        is_best = self._state.take_loss(result.loss)
        # Before the checkpoint to go on from: a run killed between them finds its best once more.
        if is_best and not self._saver.save_best(self._checkpoint(), step=self._state.step):
            self._state.best_loss = lowest_before  # which is that of the file still
        return is_best

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            weights={name: tensor.detach().cpu() for name, tensor in self._weights.judged.state_dict().items()},
            model=self._setup.model,
            stft=self._cache.stft,
            recipe=self._setup.recipe_text,
            progress=self._state.to_json(),
            card={},
            training_state=self._state.tensors(self._optimiser, self._network) | self._weights.training_state(),
        )
