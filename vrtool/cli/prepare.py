"""`vrtool prepare`: libraries of audio to a spectrogram cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrtool.cli.console import console, print_problems, progress_bar

if TYPE_CHECKING:
    from vrtool.preparation import PreparationPlan, PreparationReport


def prepare(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the cache, made or brought up to date.")],
    instrumentals: Annotated[
        list[Path] | None, typer.Option(help="Folder of songs without vocals. May be given several times.")
    ] = None,
    vocals: Annotated[list[Path] | None, typer.Option(help="Folder of vocals alone. Repeatable.")] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of pairs: song folders with mixture and instrumental (or vocals, or MUSDB stems), or "
            "mixtures/ and instruments/ with the same names. Repeatable."
        ),
    ] = None,
    validation: Annotated[
        str, typer.Option(metavar="FRACTION|FILE", help="Tracks kept for validation: a share, or a file of names.")
    ] = "0.1",
    sample_rate: Annotated[int, typer.Option(help="Hz that all audio is resampled to.")] = 44100,
    n_fft: Annotated[int, typer.Option(help="STFT window, in samples.")] = 2048,
    hop_length: Annotated[int, typer.Option(help="STFT hop, in samples.")] = 1024,
    minimum_seconds: Annotated[float, typer.Option(help="Shorter tracks are named and left out.")] = 1.0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Worker processes.")] = os.cpu_count() or 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and what it would take.")] = False,
) -> None:
    """Turn libraries of audio into a spectrogram cache for training.

    Only what is new or has changed is done. Files that cannot be used are named at the end; the exit code is then 1.
    """
    from vrtool.audio.spectrogram import StftSpec
    from vrtool.preparation import Library, PreparationSettings, plan_preparation
    from vrtool.preparation import prepare as run
    from vrtool.preparation.run import Progress, process_pool

    libraries = [
        *(Library(kind="instrumental", root=root) for root in instrumentals or ()),
        *(Library(kind="vocal", root=root) for root in vocals or ()),
        *(Library(kind="pair", root=root) for root in pairs or ()),
    ]
    settings = PreparationSettings(
        output=output,
        stft=StftSpec(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length),
        validation=validation,
        minimum_seconds=minimum_seconds,
    )
    plan = plan_preparation(libraries, settings)
    if dry_run:
        _print_estimate(plan, jobs)
        return
    with progress_bar("preparing", "MB of audio") as advance, process_pool(jobs) as pool:

        def show(progress: Progress) -> None:
            advance(progress.done_bytes // 1_000_000, progress.total_bytes // 1_000_000)

        report = run(plan, pool, show)
    _print_report(report)
    if report.problems:
        rest = "everything else is in the cache" if report.cache.tracks else "and there was nothing else"
        print_problems(report.problems, rest)
        raise typer.Exit(1)


def _print_estimate(plan: PreparationPlan, jobs: int) -> None:
    from vrtool.preparation.estimate import estimate

    expected = estimate(plan, jobs)
    console.print(f"to prepare      {expected.num_tracks} tracks, {expected.duration_seconds / 3600:.2f} hours")
    console.print(f"already there   {len(plan.finished)} tracks")
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
