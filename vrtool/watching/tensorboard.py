"""A run's events for TensorBoard: numbers as they come, and now and then what the network makes of a few songs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import Cache
from vrtool.drawing.picture import palette
from vrtool.errors import InputError
from vrtool.model.network import Network
from vrtool.separation.separator import Separator
from vrtool.training.trainer import METRICS_EVERY_STEPS
from vrtool.training.validation import ValidationResult
from vrtool.training.watcher import StepReport, Watcher
from vrtool.watching.excerpts import Excerpt, Separated, choose_excerpts, separate_excerpt
from vrtool.watching.words import STEMS


class EventWriter(Protocol):
    """What is used of torch's SummaryWriter."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Write a number."""
        ...

    def add_audio(self, tag: str, snd_tensor: FloatArray, global_step: int, sample_rate: int) -> None:
        """Write samples (1, sample)."""
        ...

    def add_image(self, tag: str, img_tensor: npt.NDArray[np.uint8], global_step: int, *, dataformats: str) -> None:
        """Write a picture (row, column, colour) if `dataformats` is "HWC"."""
        ...

    def flush(self) -> None:
        """Bring to the disk what was written."""
        ...

    def close(self) -> None:
        """Write no more."""
        ...


OpenWriter = Callable[[Path, int], EventWriter]
"""Gives a writer into a folder for a run that goes on after a step."""


def require_tensorboard() -> None:
    """Raise InputError, which says how to get it, unless TensorBoard is installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401  # whether it can be imported is all that matters
    except ImportError as error:
        raise InputError(
            f'--tensorboard needs the package tensorboard ({error}); pip install "vrtool[tensorboard]", '
            "or leave the option out"
        ) from error


def open_writer(folder: Path, step: int) -> EventWriter:
    """Return a writer into `folder` whose events after `step`, of steps that are done again, replace earlier ones."""
    from torch.utils.tensorboard import SummaryWriter

    writer: EventWriter = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
    return writer


class TensorBoardLog:
    """Writes what a Watcher is told to `folder`, which is made with the first event.

    A disk that takes no more ends the log, of which the watcher is told, and not the run; the next validation tries
    again.
    """

    def __init__(self, folder: Path, cache: Cache, *, open_writer: OpenWriter = open_writer) -> None:
        self._folder, self._cache, self._open_writer = folder, cache, open_writer
        self._writer: EventWriter | None = None
        self._excerpts: tuple[Excerpt, ...] | None = None
        self._num_validations = 0
        self._is_lost = False

    def beside(self, watcher: Watcher) -> Watcher:
        """Return a watcher that tells both `watcher` and this log."""

        def on_step(report: StepReport) -> None:
            watcher.on_step(report)
            if not self._is_lost:
                self._try(watcher, report.step, lambda: self.show_step(report))

        def on_validation(step: int, result: ValidationResult) -> None:
            watcher.on_validation(step, result)
            self._try(watcher, step, lambda: self.show_validation(step, result))

        def on_network(step: int, network: Network) -> None:
            watcher.on_network(step, network)
            self._try(watcher, step, lambda: self.show_network(step, network))

        return replace(watcher, on_step=on_step, on_validation=on_validation, on_network=on_network)

    def _try(self, watcher: Watcher, step: int, show: Callable[[], None]) -> None:
        try:
            show()
        except OSError as error:
            # Its thread has ended, and closing it would raise the same once more.
            self._writer = None
            if not self._is_lost:
                watcher.on_notice(
                    f"{self._folder}: {error.strerror or error}; training goes on, but what TensorBoard would show "
                    f"from step {step} on is lost until some space is free"
                )
            self._is_lost = True

    def show_step(self, report: StepReport) -> None:
        """Write a step's numbers, as often as the metrics have them."""
        writer = self._writer_at(report.step)
        if report.step % METRICS_EVERY_STEPS and report.step != report.num_steps:
            return
        for tag, value in (
            ("training/loss", report.loss),
            ("training/learning rate", report.learning_rate),
            ("training/gradient norm", report.gradient_norm),
            ("speed/examples per second", report.examples_per_second),
            *((f"time/{phase}", share) for phase, share in report.time_shares.items()),
        ):
            writer.add_scalar(tag, value, report.step)

    def show_validation(self, step: int, result: ValidationResult) -> None:
        """Write the validation's means and each song's scores."""
        writer = self._writer_at(step)
        writer.add_scalar("validation/loss", result.loss, step)
        for stem in STEMS:
            _add_known(writer, f"validation/nSDR {stem}", getattr(result, f"{stem}_nsdr_db"), step)
            for song in result.songs:
                tag = f"nSDR {stem}/{song.kind}/{song.name}"
                _add_known(writer, tag, getattr(song, f"{stem}_nsdr_db"), step)
        writer.flush()
        self._is_lost = False

    def show_network(self, step: int, network: Network) -> None:
        """Write what the network makes of a few songs, at the 1st, 2nd, 4th, 8th ... validation: audio is large."""
        self._num_validations += 1
        if self._num_validations.bit_count() != 1:
            return
        writer = self._writer_at(step)
        is_first = self._excerpts is None
        if self._excerpts is None:
            self._excerpts = choose_excerpts(self._cache)
        device = next(network.parameters()).device
        name = str(device) if device.type == "cuda" else device.type
        separator = Separator(network, self._cache.stft, device=name)
        for excerpt in self._excerpts:
            _add_song(writer, separate_excerpt(separator, excerpt), step, with_mixture=is_first)
        writer.flush()

    def close(self) -> None:
        """Write no more."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()

    def _writer_at(self, step: int) -> EventWriter:
        """Return the writer, made when the first event, of `step`, is to be written."""
        if self._writer is None:
            self._writer = self._open_writer(self._folder, step - 1)
        return self._writer


def _add_known(writer: EventWriter, tag: str, value: float | None, step: int) -> None:
    if value is not None:
        writer.add_scalar(tag, value, step)


def _add_song(writer: EventWriter, song: Separated, step: int, *, with_mixture: bool) -> None:
    """Write a song's stems, and its mixture, which stays the same, only where it is wanted."""
    for part, waveform in song.signals.items():
        if part != "mixture" or with_mixture:
            tag = f"{song.excerpt.name}/{part}"
            # TensorBoard's audio has one channel.
            writer.add_audio(tag, waveform.samples.mean(axis=0, keepdims=True), step, waveform.sample_rate)
            writer.add_image(tag, palette()[song.pictures[part]], step, dataformats="HWC")
