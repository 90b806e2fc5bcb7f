"""`vrtool evaluate`: how good a network's stems are, or any system's, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrtool.cli.console import console, print_problems, progress_bar
from vrtool.cli.network import load_separator
from vrtool.cli.options import (
    BUILTIN,
    REFINEMENT,
    AsJson,
    ChannelSwapAverage,
    Device,
    Models,
    NetworkPrecision,
    Postprocess,
    PrecisionName,
    Shifts,
    SongJobs,
    refuse_given,
)
from vrtool.errors import InputError, JobError

if TYPE_CHECKING:
    from vrtool.evaluation.results import Evaluation, System
    from vrtool.evaluation.systems import Estimator
    from vrtool.separation.combining import Refinement

Pairs = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PAIRS", help="Songs with their true stems, in any layout that prepare takes; MUSDB18 is one."
    ),
]
Instrumentals = Annotated[
    list[Path] | None, typer.Option("--instrumentals", help="Songs without vocals: how much of them is kept.")
]
Vocals = Annotated[list[Path] | None, typer.Option("--vocals", help="Vocals alone: how much of them is kept.")]
EstimatesFolder = Annotated[
    Path | None,
    typer.Option("--estimates", help="Score any system's stems: a folder of <song>/{vocals,instrumental}.*."),
]
Against = Annotated[
    Path | None,
    typer.Option(
        "--against",
        help="Compare with these, song by song: another run, checkpoint or builtin, as it is, or a folder of stems.",
    ),
]
Metrics = Annotated[str, typer.Option("--metrics", help="all, or a list of nsdr, si-sdr, bsseval, bass, dropouts.")]
CsvFile = Annotated[
    Path | None, typer.Option("--csv", help="Write a line per song, system and stem to this file, too.")
]


def evaluate(
    context: typer.Context,
    pairs: Pairs = None,
    instrumentals: Instrumentals = None,
    vocals: Vocals = None,
    models: Models = None,
    estimates: EstimatesFolder = None,
    against: Against = None,
    metrics: Metrics = "nsdr",
    jobs: SongJobs = 1,
    device: Device = "auto",
    precision: NetworkPrecision = "auto",
    shifts: Shifts = 1,
    channel_swap_average: ChannelSwapAverage = False,
    postprocess: Postprocess = False,
    csv_file: CsvFile = None,
    as_json: AsJson = False,
) -> None:
    """Score stems in dB over whole songs, beside the mixture as it is and the ideal ratio mask.

    What makes stems better is for --model alone: --model RUN --shifts 2 --against RUN tells what it gains.
    """
    from vrtool.evaluation.metrics import parse_metrics
    from vrtool.evaluation.run import EvaluationSettings, find_songs
    from vrtool.evaluation.run import evaluate as run
    from vrtool.separation.combining import Refinement

    settings = EvaluationSettings(metrics=parse_metrics(metrics), num_jobs=jobs)
    refinement = Refinement(shifts=shifts, channel_swap_average=channel_swap_average, postprocess=postprocess)
    chosen = _chosen_systems(models, estimates, against, refinement)
    _refuse_what_no_network_reads(context, chosen)
    if not (pairs or instrumentals or vocals):
        raise InputError("vrtool evaluate needs songs: a folder of pairs, --instrumentals DIR or --vocals DIR")
    if csv_file is not None and not csv_file.absolute().parent.is_dir():
        raise InputError(f"{csv_file}: expected a folder to write it to, found none of that name; make it first")
    songs = find_songs(pairs=pairs or (), instrumentals=instrumentals or (), vocals=vocals or ())
    estimators = {system: each.open(device, precision) for system, each in chosen.items()}
    with progress_bar("evaluating", "songs") as advance:
        evaluation = run(songs, estimators, names=_names(chosen), settings=settings, on_progress=advance)
    _show(evaluation, csv_file, as_json)
    if evaluation.problems:
        print_problems(evaluation.problems, "the rest was scored")
        raise JobError(f"{len(evaluation.problems)} songs or stems could not be scored")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """What was named to be scored: networks and how they separate, or, without a refinement, a folder of stems."""

    paths: Sequence[Path]
    refinement: Refinement | None

    def open(self, device: str, precision: PrecisionName) -> Estimator:
        """Return what gives its stems."""
        from vrtool.evaluation.systems import FolderEstimator, ModelEstimator

        if self.refinement is None:
            (folder,) = self.paths
            return FolderEstimator(folder)
        return ModelEstimator(load_separator(self.paths, device, precision, refinement=self.refinement))

    def name(self, *, in_full: bool) -> str:
        """Return what it is called: the last part of each path, or all of it, and the options that refine it."""
        words = [" + ".join(str(path) if in_full else path.resolve().name for path in self.paths)]
        if self.refinement is not None:
            words += [f"--shifts {self.refinement.shifts}"] if self.refinement.shifts > 1 else []
            words += ["--channel-swap-average"] if self.refinement.channel_swap_average else []
            words += ["--postprocess"] if self.refinement.postprocess else []
        return " ".join(words)


def _chosen_systems(
    models: list[Path] | None, estimates: Path | None, against: Path | None, refinement: Refinement
) -> dict[System, _Chosen]:
    """Return what is to be scored; InputError unless that is one system, and perhaps one more to compare it with."""
    from vrtool.evaluation.systems import is_model
    from vrtool.separation.combining import Refinement

    if models and estimates is not None:
        raise InputError(
            "vrtool evaluate takes --model RUN or --estimates DIR, not both; to compare, name the other one with "
            "--against"
        )
    chosen: dict[System, _Chosen] = {}
    if estimates is not None:
        chosen["estimate"] = _Chosen(paths=[estimates], refinement=None)
    else:
        chosen["estimate"] = _Chosen(paths=models or [Path(BUILTIN)], refinement=refinement)
    if against is not None:
        chosen["against"] = _Chosen(paths=[against], refinement=Refinement() if is_model(against) else None)
    return chosen


def _refuse_what_no_network_reads(context: typer.Context, chosen: Mapping[System, _Chosen]) -> None:
    """Raise InputError if options say how a network separates, and there is none that would."""
    are_networks = {system: each.refinement is not None for system, each in chosen.items()}
    if are_networks["estimate"]:
        return
    unread = REFINEMENT if any(are_networks.values()) else ("device", "precision", *REFINEMENT)
    refuse_given(
        context,
        unread,
        "only for the network of --model: estimates are there already, and --against is taken as it is; leave them out",
    )


def _names(chosen: Mapping[System, _Chosen]) -> dict[System, str]:
    """Return what the systems are called, by the last part of their paths where that tells them apart."""
    short = {system: each.name(in_full=False) for system, each in chosen.items()}
    if len(set(short.values())) == len(short):
        return short
    return {system: each.name(in_full=True) for system, each in chosen.items()}


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
