"""`vrtool prepare`: libraries of audio to a spectrogram cache."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vrtool.cli.console import console, print_problems, progress_bar

if TYPE_CHECKING:
    from vrtool.preparation import PreparationPlan, PreparationReport


Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the cache, made or brought up to date.")]
Instrumentals = Annotated[
    list[Path] | None, typer.Option("--instrumentals", help="Folder of songs without vocals. Repeatable.")
]
Vocals = Annotated[list[Path] | None, typer.Option("--vocals", help="Folder of vocals alone. Repeatable.")]
Pairs = Annotated[
    list[Path] | None,
    typer.Option(
        "--pairs",
        help="Folder of pairs: song folders with mixture and instrumental (or vocals, or MUSDB stems), or mixtures/ "
        "and instruments/ with the same names. Repeatable.",
    ),
]
Npz = Annotated[
    list[Path] | None,
    typer.Option("--npz", help="Folder of the ancestor's patches ({song}_p0.npz and so on), of any kind. Repeatable."),
]
Validation = Annotated[
    str,
    typer.Option(
        "--validation", metavar="FRACTION|FILE", help="Tracks kept for validation: a share, or a file of names."
    ),
]
SampleRate = Annotated[int, typer.Option("--sample-rate", help="Hz that all audio is resampled to.")]
WindowLength = Annotated[int, typer.Option("--n-fft", help="STFT window, in samples.")]
HopLength = Annotated[int, typer.Option("--hop-length", help="STFT hop, in samples.")]
MinimumSeconds = Annotated[float, typer.Option("--minimum-seconds", help="Shorter tracks are named and left out.")]
CachePrecision = Annotated[
    Literal["int16", "float32"],
    typer.Option("--precision", help="int16 takes half the space; float32 keeps every bit."),
]
Align = Annotated[
    bool,
    typer.Option(
        "--align/--no-align", help="Move the halves of pairs to fit: offset, gain, polarity. Sources stay as they are."
    ),
]
Prune = Annotated[bool, typer.Option("--prune", help="Delete cached tracks that the libraries given have no more.")]
NUM_CORES = os.cpu_count() or 1
WorkerJobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Worker processes.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Let the workers of a Dask cluster do it; they must see libraries and cache under the same paths.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and what it would take.")]


def prepare(
    output: Output,
    instrumentals: Instrumentals = None,
    vocals: Vocals = None,
    pairs: Pairs = None,
    npz: Npz = None,
    validation: Validation = "0.1",
    sample_rate: SampleRate = 44100,
    n_fft: WindowLength = 2048,
    hop_length: HopLength = 1024,
    minimum_seconds: MinimumSeconds = 1.0,
    precision: CachePrecision = "int16",
    align: Align = True,
    prune: Prune = False,
    jobs: WorkerJobs = NUM_CORES,
    scheduler: Scheduler = None,
    dry_run: DryRun = False,
) -> None:
    """Turn libraries of audio into a spectrogram cache for training.

    Only what is new or has changed is done. Files that cannot be used are named at the end; the exit code is then 1.
    """
    from vrtool.audio.spectrogram import StftSpec
    from vrtool.preparation import Library, PreparationSettings, plan_preparation

    libraries = [
        *(Library(kind="instrumental", root=root) for root in instrumentals or ()),
        *(Library(kind="vocal", root=root) for root in vocals or ()),
        *(Library(kind="pair", root=root) for root in pairs or ()),
        *(Library(kind="npz", root=root) for root in npz or ()),
    ]
    settings = PreparationSettings(
        output=output,
        stft=StftSpec(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length),
        precision=precision,
        validation=validation,
        minimum_seconds=minimum_seconds,
        align_pairs=align,
        prune=prune,
    )
    plan = plan_preparation(libraries, settings)
    if dry_run:
        _print_estimate(plan, jobs, scheduler)
    else:
        _carry_out(plan, jobs, scheduler)


def _carry_out(plan: PreparationPlan, jobs: int, scheduler: str | None) -> None:
    """Prepare what is planned and say what came of it."""
    from vrtool.preparation import Progress
    from vrtool.preparation import prepare as run

    with _executor(jobs, scheduler, plan) as executor, progress_bar("preparing", "MB of audio") as advance:

        def show(progress: Progress) -> None:
            advance(progress.done_bytes // 1_000_000, progress.total_bytes // 1_000_000)

        report = run(plan, executor, show)
    _print_report(report)
    _print_removed(plan)
    if report.problems:
        rest = "everything else is in the cache" if report.cache.tracks else "and there was nothing else"
        print_problems(report.problems, rest)
        raise typer.Exit(1)


def _executor(jobs: int, scheduler: str | None, plan: PreparationPlan) -> AbstractContextManager[Executor]:
    if scheduler is None:
        from vrtool.preparation.executors import process_pool

        return process_pool(jobs)
    from vrtool.preparation.cluster import dask_cluster

    return dask_cluster(scheduler, [*plan.roots, plan.settings.output.absolute()])


def _print_estimate(plan: PreparationPlan, jobs: int, scheduler: str | None) -> None:
    from vrtool.preparation.estimate import estimate

    if scheduler is not None:
        from vrtool.preparation.cluster import num_cluster_threads

        jobs = num_cluster_threads(scheduler)
    expected = estimate(plan, jobs)
    console.print(f"to prepare      {expected.num_tracks} tracks, {expected.duration_seconds / 3600:.2f} hours")
    console.print(f"already there   {len(plan.finished)} tracks")
    _print_removed(plan)
    console.print(f"cache grows by  {expected.cache_bytes / 1e9:.2f} GB ({expected.free_bytes / 1e9:.1f} GB are free)")
    console.print(f"time            about {expected.preparation_seconds / 60:.1f} minutes with {jobs} jobs")
    if expected.unknown_lengths:
        console.print(
            f"                {expected.unknown_lengths} tracks that do not say how long they are come on top"
        )
    if plan.problems:
        print_problems(plan.problems, "found before decoding anything")
        raise typer.Exit(1)


def _print_report(report: PreparationReport) -> None:
    from rich.markup import escape

    seconds = sum(track.header.duration_seconds for track in report.cache.tracks)
    kept = sum(track.split == "validation" for track in report.cache.tracks)
    console.print(
        f"{escape(str(report.cache.path))}: {len(report.cache.tracks)} tracks, {seconds / 3600:.2f} hours, "
        f"{kept} for validation ({report.num_prepared} prepared now, {report.num_unchanged} were there)",
        soft_wrap=True,
    )


def _print_removed(plan: PreparationPlan) -> None:
    if plan.removed:
        what = "are deleted from the cache" if plan.settings.prune else "stay in the cache; --prune deletes them"
        console.print(f"{len(plan.removed)} tracks that the libraries have no more {what}")
