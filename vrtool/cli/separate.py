"""`vrtool separate`: songs in, vocals and instrumental out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vrtool.cli.console import console, errors, print_problems, progress_bar
from vrtool.errors import InputError, JobError

if TYPE_CHECKING:
    from vrtool.separation.files import SeparationJob, SeparationProgress, SeparationReport


def separate(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Songs, or folders of songs in any depth.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the stems; the inputs' tree is kept in it.")
    ],
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="A run of vrtool train, or one of its checkpoint files.")
    ] = None,
    device: Annotated[str, typer.Option("--device", "-d", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    audio_format: Annotated[
        str, typer.Option("--format", help="wav (32-bit float, never clips), flac, ogg or mp3.")
    ] = "wav",
    subtype: Annotated[
        Literal["16", "24", "32f"] | None, typer.Option(help="Sample format of wav (32f) and flac (24).")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Separate again what is there, and replace it.")
    ] = False,
) -> None:
    """Split songs into vocals and instrumental, written to OUTPUT/<song>/{vocals,instrumental}.wav.

    Stems have the song's own sample rate, channels and length, and sum to it. Songs whose stems are there are skipped.
    """
    import time

    from vrtool.separation.files import plan_separation, separate_files

    plan = plan_separation(inputs, output, audio_format=audio_format, subtype=subtype)
    if not overwrite and len(inputs) == 1 and inputs[0].is_file():
        _refuse_existing(plan.jobs[0])
    if model is None:
        raise InputError("vrtool separate needs a trained network: pass --model RUN, a folder that vrtool train wrote")
    from vrtool.separation.separator import Separator

    separator = Separator.from_checkpoint(model, device=device)
    errors.print(f"device {separator.device.device}: {separator.device.reason}", markup=False)
    began = time.monotonic()
    with progress_bar("separating", "s of audio") as advance:

        def show(progress: SeparationProgress) -> None:
            advance(round(progress.done_seconds), max(1, round(progress.total_seconds)))

        report = separate_files(separator, plan, overwrite=overwrite, on_progress=show)
    _print_report(report, output, elapsed_seconds=time.monotonic() - began)


def _refuse_existing(job: SeparationJob) -> None:
    """Raise InputError if stems of the one song that was asked for are there: skipping it would look like success."""
    from vrtool.separation.files import existing_outputs

    if existing := existing_outputs([job]):
        names = " and ".join(str(path) for path in existing)
        raise InputError(f"{names}: already there; pass --overwrite to replace, or another --output")


def _print_report(report: SeparationReport, output: Path, *, elapsed_seconds: float) -> None:
    """Say what was done; raise JobError if not everything was."""
    for done in report.separated:
        if done.num_clipped:
            errors.print(
                f"{done.job.track}: {done.num_clipped} samples beyond full scale were clipped; --format wav keeps them",
                markup=False,
                soft_wrap=True,
            )
    seconds = sum(done.duration_seconds for done in report.separated)
    summary = f"{_songs(len(report.separated))} separated into {output}"
    if report.separated:
        summary += (
            f": {seconds:.1f} s of audio in {elapsed_seconds:.1f} s, {seconds / elapsed_seconds:.1f} times real time"
        )
    console.print(summary, markup=False, soft_wrap=True)
    if report.skipped:
        console.print(
            f"{_songs(len(report.skipped))} skipped, stems already there; --overwrite separates again", markup=False
        )
    if report.problems:
        print_problems(report.problems, "the rest is done")
        raise JobError(f"{_songs(len(report.problems))} could not be separated")


def _songs(count: int) -> str:
    return "1 song" if count == 1 else f"{count} songs"
