"""`vrtool evaluate`: how good a network's stems are, or any system's, in numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrtool.cli.console import console, print_problems, progress_bar
from vrtool.cli.network import PRECISION_OPTION, Device, PrecisionName, load_separator
from vrtool.errors import InputError, JobError

if TYPE_CHECKING:
    from rich.table import Table

    from vrtool.evaluation.results import Evaluation, StemScores
    from vrtool.model.acceleration import Precision


def evaluate(
    pairs: Annotated[Path, typer.Argument(help="Songs with their true stems, in any layout that prepare takes.")],
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Score this network: a run of vrtool train, or a checkpoint file."),
    ] = None,
    estimates: Annotated[
        Path | None,
        typer.Option("--estimates", help="Score any system's stems: a folder of <song>/{vocals,instrumental}.*."),
    ] = None,
    device: Device = "auto",
    precision: Annotated[PrecisionName, PRECISION_OPTION] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Score stems by nSDR in dB over whole songs, beside the mixture as it is and the ideal ratio mask."""
    import json

    if (model is None) == (estimates is None):
        raise InputError("vrtool evaluate needs either --model RUN or --estimates DIR, and not both")
    if estimates is not None and (device, precision) != ("auto", "float32"):
        raise InputError("--device, --precision: only for --model, estimates are there already; leave them out")
    evaluation = _run(pairs, model, estimates, device, precision)
    if as_json:
        # Not through rich: whoever reads this wants neither wrapped lines nor colours.
        typer.echo(json.dumps(evaluation.to_json(), indent=2, allow_nan=False))
    else:
        console.print(score_table(evaluation))
        if evaluation.num_silent:
            console.print(f"{evaluation.num_silent} true stems are silent: no score, and not in mean and median")
    if evaluation.problems:
        print_problems(evaluation.problems, "the rest was scored")
        raise JobError(f"{len(evaluation.problems)} songs or stems could not be scored")


def _run(pairs: Path, model: Path | None, estimates: Path | None, device: str, precision: Precision) -> Evaluation:
    """Return the scores of whichever is not None, with progress shown."""
    from vrtool.evaluation.run import evaluate_estimates, evaluate_model

    if estimates is not None:
        with progress_bar("evaluating", "songs") as advance:
            return evaluate_estimates(pairs, estimates, on_progress=advance)
    assert model is not None
    separator = load_separator(model, device, precision)
    with progress_bar("evaluating", "songs") as advance:
        return evaluate_model(pairs, separator, on_progress=advance)


def score_table(evaluation: Evaluation) -> Table:
    """Return the scores as a table: a row per song, then mean and median, nSDR in dB."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="nSDR in dB; mixture and ideal mask: vocals / instrumental", show_footer=False)
    table.add_column("song", overflow="fold")
    for heading in ("vocals", "instrumental", "mixture", "ideal mask"):
        table.add_column(heading, justify="right", no_wrap=True)
    for song in evaluation.songs:
        table.add_row(escape(song.name), *_cells(song.estimate, song.mixture, song.ideal_mask))
    table.add_section()
    for label, average in (("mean", evaluation.mean), ("median", evaluation.median)):
        cells = _cells(average("estimate"), average("mixture"), average("ideal_mask"))
        table.add_row(label, *cells, style="bold")
    return table


def _cells(estimate: StemScores, mixture: StemScores, ideal_mask: StemScores) -> tuple[str, str, str, str]:
    return (
        _decibels(estimate.vocals),
        _decibels(estimate.instrumental),
        f"{_decibels(mixture.vocals)} / {_decibels(mixture.instrumental)}",
        f"{_decibels(ideal_mask.vocals)} / {_decibels(ideal_mask.instrumental)}",
    )


def _decibels(score: float | None) -> str:
    if score is None:
        return "–"
    # Adding zero makes 0.0 of the -0.0 that rounding leaves.
    return "perfect" if score == math.inf else f"{round(score, 1) + 0.0:.1f}"
