"""The training loop: batches in, better weights out, and nothing lost on the way."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NoReturn

from vrtool.dataset.cache import Cache
from vrtool.dataset.examples import ExampleBuilder
from vrtool.errors import InputError, InterruptedRunError, JobError
from vrtool.model.checkpoint import Checkpoint
from vrtool.training.advice import LoaderAdviser
from vrtool.training.bad_steps import MAX_BAD_STEPS, BadStepLog, end_after_bad_steps
from vrtool.training.batches import training_batches
from vrtool.training.distributed import World, local_size, require_fair_shares
from vrtool.training.learner import Learner
from vrtool.training.loading import DeviceBatches, StepBatches, load_batches
from vrtool.training.losses import TrainingLoss
from vrtool.training.memory import memory_watched
from vrtool.training.meter import Meter
from vrtool.training.run_folder import RunFolder
from vrtool.training.saving import Saver
from vrtool.training.session import describe_session, timestamp
from vrtool.training.setup import TrainingSetup
from vrtool.training.starting import load_initial
from vrtool.training.stopwatch import Stopwatch
from vrtool.training.validation import ValidationSet, validation_set
from vrtool.training.watcher import StepReport, Watcher

METRICS_EVERY_STEPS = 20

Resume = Literal["never", "always", "if possible"]
"""Whether a run begins anew or goes on with what is in its folder."""


def train(
    setup: TrainingSetup,
    cache: Cache,
    folder: RunFolder,
    *,
    world: World,
    resume: Resume = "never",
    initial: Path | None = None,
    watcher: Watcher | None = None,
) -> int:
    """Train a network on a cache until the recipe's last step, or out of patience, and return that step's number.

    A new run begins with the weights of `initial`, a checkpoint or a run folder, where given. All processes of `world`
    are to call this alike; the folder is read and written by the main one, and `watcher` of the others hears of nothing
    but is asked whether to stop. Raises InputError if cache, recipe, run folder and weights do not go together,
    InterruptedRunError when asked to stop, after a checkpoint, and JobError when training has diverged, memory runs out
    or its last checkpoint cannot be saved.
    """
    if resume == "always" and initial is not None:
        raise InputError("--resume goes on with the run's own weights, --from begins a new run; leave one of them out")
    watcher = watcher or Watcher()
    if not world.is_main:
        watcher = Watcher(stop_asked=watcher.stop_asked)
    return Trainer(setup, cache, folder, world=world, resume=resume, initial=initial, watcher=watcher).run()


class Trainer:
    """The loop over a run's steps, and what is said, judged and saved on the way."""

    def __init__(
        self,
        setup: TrainingSetup,
        cache: Cache,
        folder: RunFolder,
        *,
        world: World,
        resume: Resume,
        initial: Path | None,
        watcher: Watcher,
    ) -> None:
        self._setup, self._cache, self._folder, self._world, self._watcher = setup, cache, folder, world, watcher
        config = setup.training
        require_fair_shares(world, config.accumulate_batches)
        world.require_same((setup, resume == "always", initial is not None), "recipe, --resume or --from")
        world.require_same((cache.stft, [(track.key, track.split, track.header) for track in cache.tracks]), "cache")
        self._saver = Saver(folder, world, num_kept=config.keep_checkpoints, tell=watcher.on_notice)
        self._stopwatch = Stopwatch(world.device)
        self._choose_examples()
        resumed = world.share_checkpoint(lambda: self._checkpoint_to_resume(resume))
        is_new = resumed is None
        self._learner = Learner(
            setup,
            cache,
            self._loss,
            world=world,
            stopwatch=self._stopwatch,
            resumed=resumed,
            initial=world.share_checkpoint(lambda: load_initial(initial)) if is_new and initial is not None else None,
            tell=watcher.on_notice,
        )
        if is_new:
            world.share(lambda: folder.start(setup.recipe_text))
        elif world.is_main:
            folder.write_recipe(setup.recipe_text)
            folder.drop_metrics_after(self._learner.state.step)
        world.notes.say_started(str(folder.path.absolute()))

    def _choose_examples(self) -> None:
        """Decide what the network learns from, is judged by, and how."""
        setup, cache, config = self._setup, self._cache, self._setup.training
        builder = ExampleBuilder(tracks={track.key: track for track in cache.tracks}, stft=cache.stft)
        self._loss = TrainingLoss(config.losses, cache.stft, config.stft_loss_n_fft)
        self._loss.require_crop(min(config.crop_lengths))
        self._batches = training_batches(
            cache,
            builder,
            model=setup.model,
            augmentation=setup.augmentation,
            config=config,
            content=self._loss.content,
        )
        self._bad_steps = BadStepLog(self._saver, self._folder, self._batches, cache, config, setup.recipe_text)
        self._validation: ValidationSet = validation_set(
            cache,
            builder,
            crop_frames=config.crop_frames,
            num_examples=config.num_validation_examples,
            # As many as fit into memory with all that a step keeps.
            batch_size=config.batch_size,
        )

    def _checkpoint_to_resume(self, resume: Resume) -> tuple[Path, Checkpoint] | None:
        """Return what the run goes on from, and where it is; None for a new one."""
        if resume == "always" or (resume == "if possible" and self._folder.has_checkpoints):
            return self._folder.resume(tell=self._watcher.on_notice)
        return None

    def run(self) -> int:
        """Train until the recipe's last step, or out of patience; return the number of the last step done."""
        config, world, learner = self._setup.training, self._world, self._learner
        numbers = StepBatches(
            first_step=learner.state.step,
            end_step=config.num_steps,
            per_step=config.accumulate_batches,
            own=world.own_share(config.accumulate_batches),
        )
        self._adviser = LoaderAdviser(config.num_loader_workers, num_processes=local_size())
        batches_to_come = load_batches(
            self._batches,
            numbers,
            num_workers=config.num_loader_workers,
            pin_memory=world.device.type == "cuda",
            on_made=self._adviser.made,
        )
        self._meter = Meter(config)
        self._saver.log(
            describe_session(learner.state.step, cache=self._cache.path, device=world.device, num_processes=world.size)
        )
        with (
            memory_watched(config, learner.network, world.device, self._folder, step=lambda: learner.state.step + 1),
            contextlib.closing(batches_to_come),
        ):
            batches = DeviceBatches(batches_to_come, world.device, self._stopwatch)
            while not self._is_over():
                self._step(batches)
                self._after_step()
        return learner.state.step

    def _step(self, batches: DeviceBatches) -> None:
        """Do a step, and note down what it was made of if it was a bad one."""
        update = self._learner.step(batches)
        if update.is_bad and self._world.is_main:
            self._bad_steps.write(
                step=self._learner.state.step,
                losses=update.pass_losses,
                gradient_norm=update.gradient_norm,
                learning_rate=update.learning_rate,
            )
        self._meter.step(update, self._stopwatch.read())
        self._stopwatch.enter("saving")

    def _after_step(self) -> None:
        """Report, validate, save: whatever is due after the step just done."""
        config, state = self._setup.training, self._learner.state
        is_last = state.step == config.num_steps
        self._report(to_metrics=state.step % METRICS_EVERY_STEPS == 0 or is_last)
        if state.bad_steps_in_a_row >= MAX_BAD_STEPS:
            self._give_up()
        is_best = False
        if state.step % config.validate_every_steps == 0 or is_last:
            is_best = self._validate()
        is_over = self._is_over()
        stop = self._hear_all() and not is_over
        if is_best or stop or is_over or state.step % config.checkpoint_every_steps == 0:
            is_saved = self._saver.save(self._learner.checkpoint, step=state.step)
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

    def _give_up(self) -> NoReturn:
        """End the run with the checkpoint from before its bad steps, which have changed nothing but this."""
        last = self._learner.state.step
        self._learner.go_back_before_bad_steps()
        end_after_bad_steps(
            self._learner.checkpoint,
            self._folder,
            self._saver,
            before=self._learner.state.step,
            last=last,
            precision=self._setup.training.precision,
        )

    def _hear_all(self) -> bool:
        """Tell whether any process was asked to stop, and what helps if the network of any of them waits for data."""
        waiting_share = self._meter.time_shares["data"] if self._meter.is_settled else 0.0
        stop, waiting_share = self._world.largest([float(self._watcher.stop_asked()), waiting_share])
        if advice := self._adviser.advice(waiting_share):
            self._watcher.on_notice(f"step {self._learner.state.step:,}: {advice}")
        return stop > 0.0

    def _is_over(self) -> bool:
        """Tell whether the last step is done, or as many validations have seen no gain as the recipe has patience."""
        config, state = self._setup.training, self._learner.state
        return state.step >= config.num_steps or 0 < config.patience <= state.validations_without_gain

    def _report(self, *, to_metrics: bool) -> None:
        state = self._learner.state
        rates = self._meter.rates(state.step)
        if rates is None:
            return
        report = StepReport(
            step=state.step,
            num_steps=self._setup.training.num_steps,
            num_skipped_steps=state.skipped_steps,
            **rates,
        )
        self._watcher.on_step(report)
        if to_metrics:
            self._saver.log({"kind": "training", "time": timestamp(), **asdict(report)})

    def _validate(self) -> bool:
        """Judge the network, log it and keep it if it is the best so far; return whether it is."""
        learner, state = self._learner, self._learner.state
        self._stopwatch.enter("validation")
        result = self._validation.judge(learner.judged, self._world)
        self._watcher.on_network(state.step, learner.judged)
        learner.network.train()
        self._stopwatch.enter("saving")
        if result is None:
            # With nothing to judge by, the newest is taken for the best.
            self._saver.save_best(learner.checkpoint, step=state.step)
            return True
        self._watcher.on_validation(state.step, result)
        self._saver.log({"kind": "validation", "step": state.step, **asdict(result)})
        lowest_before = state.best_loss
        is_best = state.take_loss(result.loss)
        # Before the checkpoint to go on from: a run killed between them finds its best once more.
        if is_best and not self._saver.save_best(learner.checkpoint, step=state.step):
            state.best_loss = lowest_before  # which is that of the file still
        return is_best
