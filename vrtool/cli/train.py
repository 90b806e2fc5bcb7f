"""`vrtool train`: a recipe and a cache to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrtool.cli.console import console, errors
from vrtool.cli.display import Display
from vrtool.cli.interrupts import interrupts_to
from vrtool.cli.network import Device, print_device
from vrtool.cli.replay import replay_step
from vrtool.cli.watching import report_at_the_end, tensorboard_log
from vrtool.errors import InputError

if TYPE_CHECKING:
    from vrtool.training.trainer import Resume


def train(
    recipe: Annotated[Path | None, typer.Argument(help="TOML recipe: model, augmentation, training.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Cache made by vrtool prepare.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the run: checkpoints and metrics. With --replay, a file."),
    ] = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    auto_resume: Annotated[
        bool, typer.Option("--auto-resume", help="Go on with the run in --output if there is one, else start it.")
    ] = False,
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
    replay: Annotated[
        Path | None,
        typer.Option(
            "--replay", metavar="FILE", help="Show what a skipped step was made of, from RUN/bad-steps. Trains nothing."
        ),
    ] = None,
) -> None:
    """Train a network as a recipe says. Ctrl-C ends it after the current step, with a checkpoint to resume from.

    At the end, report.html in the run's folder shows how it went. torchrun -m vrtool train ... uses several GPUs.
    """
    if replay is not None:
        _require_nothing_else(recipe, resume or auto_resume, initial, changes, tensorboard)
        replay_step(replay, cache, output, device)
        return
    if recipe is None or cache is None or output is None:
        missing = [name for name, given in (("RECIPE", recipe), ("--cache", cache), ("--output", output)) if not given]
        raise InputError(f"training takes RECIPE, --cache and --output; missing: {', '.join(missing)}")
    from vrtool.dataset.cache import open_cache
    from vrtool.dataset.header import check_same_stft
    from vrtool.model.device import pick_device
    from vrtool.model.memory import keep_freed_memory
    from vrtool.recipe import load_recipe
    from vrtool.training.distributed import joined_world, own_gpu
    from vrtool.training.run_folder import RunFolder
    from vrtool.training.trainer import TrainingSetup
    from vrtool.training.trainer import train as run
    from vrtool.training.watcher import Watcher

    if resume and auto_resume:
        raise InputError("--resume wants a run to go on with, --auto-resume takes none as well; leave one of them out")
    picked = pick_device(device, gpu=own_gpu())
    keep_freed_memory()
    with joined_world(picked.device) as world, _stop_on_interrupt(is_told=world.is_main) as stop_asked:
        parts = load_recipe(recipe, changes or ())
        data = open_cache(cache)
        if parts.stft is not None:
            check_same_stft(data.stft, parts.stft, origin=str(cache), wanted_by=f"{recipe} says")
        setup = TrainingSetup(
            recipe_text=parts.text, model=parts.model, augmentation=parts.augmentation, training=parts.training
        )
        folder = RunFolder(path=output)
        # Processes that torchrun has started again run the very command that started the run.
        may_go_on = auto_resume or world.notes.has_started(str(output.absolute()))
        how: Resume = "always" if resume else "if possible" if may_go_on else "never"
        if not world.is_main:
            run(setup, data, folder, world=world, resume=how, initial=initial, watcher=Watcher(stop_asked=stop_asked))
            return
        print_device(picked, parts.training.precision)
        with (
            report_at_the_end(folder, str(picked.device)),
            Display() as display,
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
            last_step = run(setup, data, folder, world=world, resume=how, initial=initial, watcher=watcher)
    console.print(
        f"{output}: trained to step {last_step}; separate songs with --model {output}", soft_wrap=True, markup=False
    )


def _require_nothing_else(
    recipe: Path | None, resume: bool, initial: Path | None, changes: list[str] | None, tensorboard: bool
) -> None:
    """Raise InputError if --replay comes with what would change a run, which it shows as it was."""
    given = {"RECIPE": recipe, "--resume": resume, "--from": initial, "--set": changes, "--tensorboard": tensorboard}
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise InputError(
            f"--replay shows a step as it was and takes --cache, --output and --device alone; leave {wrong[0]} out"
        )


@contextmanager
def _stop_on_interrupt(*, is_told: bool) -> Iterator[Callable[[], bool]]:
    """Give what tells whether Ctrl-C or a request to terminate has arrived; a second one interrupts at once.

    A person is told, unless another process of the run does that.
    """
    is_asked = False

    def ask() -> None:
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True
        if is_told:
            errors.print("stopping after this step; once more to stop at once and lose it")

    with interrupts_to(ask):
        yield lambda: is_asked
