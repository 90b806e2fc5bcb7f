"""`vrtool train`: a recipe and a cache to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrtool.cli.console import console, errors
from vrtool.cli.display import Display
from vrtool.cli.interrupts import interrupts_to
from vrtool.cli.network import print_device
from vrtool.cli.options import Device, refuse_given
from vrtool.cli.replay import replay_step
from vrtool.cli.watching import report_at_the_end, tensorboard_log
from vrtool.errors import InputError

if TYPE_CHECKING:
    from vrtool.dataset.cache import Cache
    from vrtool.model.device import PickedDevice
    from vrtool.training.run_folder import RunFolder
    from vrtool.training.setup import TrainingSetup
    from vrtool.training.trainer import Resume
    from vrtool.training.watcher import Watcher

RecipeFile = Annotated[
    Path | None, typer.Argument(metavar="RECIPE", help="TOML recipe: model, augmentation, training.")
]
CacheFolder = Annotated[Path | None, typer.Option("--cache", help="Cache made by vrtool prepare.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder of the run: checkpoints and metrics. With --replay, a file."),
]
MustResume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")]
AutoResume = Annotated[
    bool, typer.Option("--auto-resume", help="Go on with the run in --output if there is one, else start it.")
]
Initial = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="MODEL", help="Begin with the weights of a checkpoint or run folder, or with builtin."
    ),
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change the recipe. Repeatable.")
]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Write RUN/tensorboard too. Needs the extra tensorboard.")
]
ReplayFile = Annotated[
    Path | None,
    typer.Option(
        "--replay", metavar="FILE", help="Show what a skipped step was made of, from RUN/bad-steps. Trains nothing."
    ),
]

NOT_REPLAYED = ("recipe", "resume", "auto_resume", "initial", "changes", "tensorboard")
"""What would change a run, which --replay shows as it was."""


def train(
    context: typer.Context,
    recipe: RecipeFile = None,
    cache: CacheFolder = None,
    output: Output = None,
    device: Device = "auto",
    resume: MustResume = False,
    auto_resume: AutoResume = False,
    initial: Initial = None,
    changes: Changes = None,
    tensorboard: Tensorboard = False,
    replay: ReplayFile = None,
) -> None:
    """Train a network as a recipe says. Ctrl-C ends it after the current step, with a checkpoint to resume from.

    At the end, report.html in the run's folder shows how it went. torchrun -m vrtool train ... uses several GPUs.
    """
    if replay is not None:
        refuse_given(
            context,
            NOT_REPLAYED,
            "--replay shows a step as it was and takes --cache, --output and --device alone; leave it out",
        )
        replay_step(replay, cache, output, device)
        return
    if recipe is None or cache is None or output is None:
        missing = [name for name, given in (("RECIPE", recipe), ("--cache", cache), ("--output", output)) if not given]
        raise InputError(f"training takes RECIPE, --cache and --output; missing: {', '.join(missing)}")
    if resume and auto_resume:
        raise InputError("--resume wants a run to go on with, --auto-resume takes none as well; leave one of them out")
    from vrtool.model.device import pick_device
    from vrtool.model.memory import keep_freed_memory
    from vrtool.training.distributed import joined_world, own_gpu
    from vrtool.training.run_folder import RunFolder
    from vrtool.training.trainer import train as run
    from vrtool.training.watcher import Watcher

    picked = pick_device(device, gpu=own_gpu())
    keep_freed_memory()
    with joined_world(picked.device) as world, _stop_on_interrupt(is_told=world.is_main) as stop_asked:
        setup, data = _read(recipe, changes or (), cache)
        folder = RunFolder(path=output)
        # Processes that torchrun has started again run the very command that started the run.
        may_go_on = auto_resume or world.notes.has_started(str(output.absolute()))
        how: Resume = "always" if resume else "if possible" if may_go_on else "never"
        if not world.is_main:
            run(setup, data, folder, world=world, resume=how, initial=initial, watcher=Watcher(stop_asked=stop_asked))
            return
        print_device(picked, setup.training.precision)
        with _watched(folder, picked, data, stop_asked, tensorboard=tensorboard) as watcher:
            last_step = run(setup, data, folder, world=world, resume=how, initial=initial, watcher=watcher)
    console.print(
        f"{output}: trained to step {last_step}; separate songs with --model {output}", soft_wrap=True, markup=False
    )


def _read(recipe: Path, changes: Sequence[str], cache: Path) -> tuple[TrainingSetup, Cache]:
    """Return what a recipe says, as it was changed, and the cache; InputError if they do not go together."""
    from vrtool.dataset.cache import open_cache
    from vrtool.dataset.header import check_same_stft
    from vrtool.recipe import load_recipe
    from vrtool.training.setup import TrainingSetup

    parts = load_recipe(recipe, changes)
    data = open_cache(cache)
    if parts.stft is not None:
        check_same_stft(data.stft, parts.stft, origin=str(cache), wanted_by=f"{recipe} says")
    setup = TrainingSetup(
        recipe_text=parts.text, model=parts.model, augmentation=parts.augmentation, training=parts.training
    )
    return setup, data


@contextmanager
def _watched(
    folder: RunFolder, picked: PickedDevice, cache: Cache, stop_asked: Callable[[], bool], *, tensorboard: bool
) -> Iterator[Watcher]:
    """Give the watcher that shows a run in the terminal and in TensorBoard if wanted; at the end comes the report."""
    from vrtool.training.watcher import Watcher

    with (
        report_at_the_end(folder, str(picked.device)),
        Display() as display,
        tensorboard_log(folder, cache, is_wanted=tensorboard) as log,
    ):
        watcher = Watcher(
            on_step=display.show_step,
            on_validation=display.show_validation,
            on_notice=display.show_notice,
            stop_asked=stop_asked,
        )
        yield watcher if log is None else log.beside(watcher)


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
