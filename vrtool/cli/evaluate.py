"""`vrtool evaluate`: how good a network's stems are, or any system's, in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrtool.cli.console import console, print_problems, progress_bar
from vrtool.cli.network import PRECISION_OPTION, Device, PrecisionName, load_separator
from vrtool.errors import InputError, JobError

if TYPE_CHECKING:
    from vrtool.evaluation.results import Evaluation, System
    from vrtool.evaluation.systems import Estimator
    from vrtool.model.acceleration import Precision


def evaluate(
    pairs: Annotated[
        list[Path] | None,
        typer.Argument(help="Songs with their true stems, in any layout that prepare takes; MUSDB18 is one."),
    ] = None,
    instrumentals: Annotated[
        list[Path] | None, typer.Option("--instrumentals", help="Songs without vocals: how much of them is kept.")
    ] = None,
    vocals: Annotated[
        list[Path] | None, typer.Option("--vocals", help="Vocals alone: how much of them is kept.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Score this network: a run of vrtool train, or a checkpoint file."),
    ] = None,
    estimates: Annotated[
        Path | None,
        typer.Option("--estimates", help="Score any system's stems: a folder of <song>/{vocals,instrumental}.*."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Compare with these, song by song: another run, checkpoint or folder of stems."),
    ] = None,
    metrics: Annotated[
        str, typer.Option("--metrics", help="all, or a list of nsdr, si-sdr, bsseval, bass, dropouts.")
    ] = "nsdr",
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Songs at a time; memory is that of as many songs.")] = 1,
    device: Device = "auto",
    precision: Annotated[PrecisionName, PRECISION_OPTION] = "float32",
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write a line per song, system and stem to this file, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Score stems in dB over whole songs, beside the mixture as it is and the ideal ratio mask."""
    from vrtool.evaluation.metrics import parse_metrics
    from vrtool.evaluation.run import EvaluationSettings, find_songs
    from vrtool.evaluation.run import evaluate as run

    settings = EvaluationSettings(metrics=parse_metrics(metrics), num_jobs=jobs)
    paths = _chosen_systems(model, estimates, against)
    if not (pairs or instrumentals or vocals):
        raise InputError("vrtool evaluate needs songs: a folder of pairs, --instrumentals DIR or --vocals DIR")
    if csv_file is not None and not csv_file.absolute().parent.is_dir():
        raise InputError(f"{csv_file}: expected a folder to write it to, found none of that name; make it first")
    songs = find_songs(pairs=pairs or (), instrumentals=instrumentals or (), vocals=vocals or ())
    estimators = _estimators(paths, model, device, precision)
    with progress_bar("evaluating", "songs") as advance:
        evaluation = run(songs, estimators, names=_names(paths), settings=settings, on_progress=advance)
    _show(evaluation, csv_file, as_json)
    if evaluation.problems:
        print_problems(evaluation.problems, "the rest was scored")
        raise JobError(f"{len(evaluation.problems)} songs or stems could not be scored")


def _chosen_systems(model: Path | None, estimates: Path | None, against: Path | None) -> dict[System, Path]:
    """Return what is to be scored; InputError unless that is one system, and perhaps one more to compare it with."""
    chosen = [path for path in (model, estimates) if path is not None]
    if len(chosen) != 1:
        raise InputError(
            "vrtool evaluate needs either --model RUN or --estimates DIR, and not both; to compare, name the other one "
            "with --against"
        )
    paths: dict[System, Path] = {"estimate": chosen[0]}
    return paths if against is None else {**paths, "against": against}


def _names(paths: dict[System, Path]) -> dict[System, str]:
    """Return what the systems are called: the last part of their path, or all of it where that is the same."""
    short = {system: path.resolve().name for system, path in paths.items()}
    return short if len(set(short.values())) == len(short) else {system: str(path) for system, path in paths.items()}


def _estimators(
    paths: dict[System, Path], model: Path | None, device: str, precision: Precision
) -> dict[System, Estimator]:
    from vrtool.evaluation.systems import FolderEstimator, ModelEstimator, is_model

    are_models = {
        system: model is not None if system == "estimate" else is_model(path) for system, path in paths.items()
    }
    if not any(are_models.values()) and (device, precision) != ("auto", "float32"):
        raise InputError("--device, --precision: only for --model, estimates are there already; leave them out")
    return {
        system: ModelEstimator(load_separator([path], device, precision))
        if are_models[system]
        else FolderEstimator(path)
        for system, path in paths.items()
    }


def _show(evaluation: Evaluation, csv_file: Path | None, as_json: bool) -> None:
    """Print the scores, and write them to a file if one is named."""
    import json

    from vrtool.atomic import atomic_path
    from vrtool.cli.score_tables import score_tables
    from vrtool.evaluation.export import to_csv, to_json

    if csv_file is not None:
        with atomic_path(csv_file) as temporary:
            temporary.write_text(to_csv(evaluation), encoding="utf-8")
    if as_json:
        # Not through rich: whoever reads this wants neither wrapped lines nor colours.
        typer.echo(json.dumps(to_json(evaluation), indent=2, allow_nan=False))
        return
    for title, table in score_tables(evaluation):
        console.print(title, style="bold", markup=False, soft_wrap=True)
        console.print(table)
    if evaluation.num_silent:
        console.print(f"{evaluation.num_silent} true stems are silent: no score, and not in mean and median")
