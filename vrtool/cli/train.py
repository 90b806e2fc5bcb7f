"""`vrtool train`: a recipe and a cache to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrtool.cli.console import console, errors
from vrtool.cli.interrupts import interrupts_to
from vrtool.cli.network import Device, print_device
from vrtool.cli.watching import report_at_the_end, tensorboard_log

if TYPE_CHECKING:
    from vrtool.training.trainer import StepReport
    from vrtool.training.validation import ValidationResult


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML recipe: model, augmentation, training.")],
    cache: Annotated[Path, typer.Option(help="Cache made by vrtool prepare.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run: checkpoints and metrics.")],
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    initial: Annotated[
        Path | None,
        typer.Option("--from", metavar="MODEL", help="Begin with the weights of a checkpoint or run folder."),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change the recipe. Repeatable.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write RUN/tensorboard too. Needs the extra tensorboard.")
    ] = False,
) -> None:
    """Train a network as a recipe says. Ctrl-C ends it after the current step, with a checkpoint to resume from.

    At the end, report.html in the run's folder shows how it went.
    """
    from vrtool.dataset.cache import open_cache
    from vrtool.dataset.header import check_same_stft
    from vrtool.model.device import pick_device
    from vrtool.model.memory import keep_freed_memory
    from vrtool.recipe import load_recipe
    from vrtool.training.run_folder import RunFolder
    from vrtool.training.trainer import TrainingSetup, Watcher
    from vrtool.training.trainer import train as run

    parts = load_recipe(recipe, changes or ())
    data = open_cache(cache)
    if parts.stft is not None:
        check_same_stft(data.stft, parts.stft, origin=str(cache), wanted_by=f"{recipe} says")
    picked = pick_device(device)
    keep_freed_memory()
    print_device(picked, parts.training.precision)
    setup = TrainingSetup(
        recipe_text=parts.text, model=parts.model, augmentation=parts.augmentation, training=parts.training
    )
    folder = RunFolder(path=output)
    with (
        report_at_the_end(folder, str(picked.device)),
        _stop_on_interrupt() as stop_asked,
        _Display() as display,
        tensorboard_log(folder, data, is_wanted=tensorboard) as log,
    ):
        watcher = Watcher(
            on_step=display.show_step,
            on_validation=display.show_validation,
            on_notice=display.show_notice,
            stop_asked=stop_asked,
        )
        if log is not None:
            watcher = log.beside(watcher)
        last_step = run(setup, data, folder, device=picked.device, resume=resume, initial=initial, watcher=watcher)
    console.print(
        f"{output}: trained to step {last_step}; separate songs with --model {output}", soft_wrap=True, markup=False
    )


@contextmanager
def _stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Give what tells whether Ctrl-C or a request to terminate has arrived; a second one interrupts at once."""
    is_asked = False

    def ask() -> None:
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True
        errors.print("stopping after this step; once more to stop at once and lose it")

    with interrupts_to(ask):
        yield lambda: is_asked


class _Display:
    """A live line on a terminal; elsewhere a line now and then."""

    LINE_EVERY_STEPS = 100

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(console=errors, refresh_per_second=4, transient=True) if errors.is_terminal else None

    def __enter__(self) -> _Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show_step(self, report: StepReport) -> None:
        line = (
            f"step {report.step:,}/{report.num_steps:,}  loss {report.loss:.6f}  rate {report.learning_rate:.2e}  "
            f"{report.examples_per_second:.1f} examples/s  waiting for data {report.data_wait_share:.0%}  "
            f"{_duration(report.seconds_left)} left"
        )
        if report.num_skipped_steps:
            line += f"  {report.num_skipped_steps} skipped"
        if self._live is not None:
            self._live.update(line)
        elif report.step % self.LINE_EVERY_STEPS == 0 or report.step in (1, report.num_steps):
            errors.print(line, soft_wrap=True)

    def show_notice(self, sentence: str) -> None:
        errors.print(sentence, soft_wrap=True, markup=False)

    def show_validation(self, step: int, result: ValidationResult) -> None:
        errors.print(
            f"step {step:,}  validation loss {result.loss:.6f}  nSDR vocals {_decibels(result.vocals_nsdr_db)}  "
            f"instrumental {_decibels(result.instrumental_nsdr_db)}",
            soft_wrap=True,
        )


def _decibels(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} dB"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
