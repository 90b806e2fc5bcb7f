"""`vrtool separate`: songs in, vocals and instrumental out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vrtool.cli.console import console, errors, print_problems, progress_bar
from vrtool.cli.live import separate_live
from vrtool.cli.network import PRECISION_OPTION, Device, PrecisionName, load_separator
from vrtool.errors import InputError, JobError

if TYPE_CHECKING:
    from vrtool.audio.waveform import Subtype
    from vrtool.model.acceleration import Precision
    from vrtool.separation.files import SeparationJob, SeparationProgress, SeparationReport

LIVE = "With --live"
"""The heading of the options that only a stream needs."""


def separate(
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="INPUT", help="Songs, or folders of songs in any depth.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the stems; the inputs' tree is kept in it.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="A run of vrtool train, or one of its checkpoint files.")
    ] = None,
    device: Device = "auto",
    audio_format: Annotated[
        str | None, typer.Option("--format", help="wav (the default: 32-bit float, never clips), flac, ogg or mp3.")
    ] = None,
    subtype: Annotated[
        Literal["16", "24", "32f"] | None, typer.Option(help="Sample format of wav (32f) and flac (24).")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Separate again what is there, and replace it.")
    ] = False,
    precision: Annotated[PrecisionName | None, PRECISION_OPTION] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Raw PCM from standard input, one stem to standard output.", rich_help_panel=LIVE),
    ] = False,
    stem: Annotated[
        Literal["vocals", "instrumental"] | None,
        typer.Option(help="What to write (instrumental).", rich_help_panel=LIVE),
    ] = None,
    pcm: Annotated[
        Literal["s16le", "s24le", "s32le", "f32le"] | None,
        typer.Option(help="Interleaved samples of input and output, in ffmpeg's words (s16le).", rich_help_panel=LIVE),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(metavar="HZ", help="Of input and output (the network's own).", rich_help_panel=LIVE),
    ] = None,
    channels: Annotated[
        int | None, typer.Option(metavar="1|2", help="Of input and output (2).", rich_help_panel=LIVE)
    ] = None,
) -> None:
    """Split songs into vocals and instrumental, written to OUTPUT/<song>/{vocals,instrumental}.wav.

    Stems have the song's own sample rate, channels and length, and sum to it. Songs whose stems are there are skipped.

    As a song plays: ffmpeg -i song.mp3 -f s16le -ac 2 -ar 44100 - | vrtool separate --live -m RUN | aplay -f cd
    """
    of_files = {
        "INPUT": inputs, "--output": output, "--format": audio_format, "--subtype": subtype, "--overwrite": overwrite,
        "--precision": precision,
    }  # fmt: skip
    of_streams = {"--stem": stem, "--pcm": pcm, "--sample-rate": sample_rate, "--channels": channels}
    if live:
        _refuse(of_files, "songs in files, --live reads standard input and writes standard output; leave out one")
        separate_live(
            model=_required(model),
            device=device,
            stem=stem or "instrumental",
            pcm=pcm or "s16le",
            sample_rate=sample_rate,
            num_channels=2 if channels is None else channels,
        )
        return
    _refuse(of_streams, "--live, and files say it themselves; leave it out, or add --live")
    _separate_files(
        inputs,
        output,
        model,
        device=device,
        precision=precision or "float32",
        audio_format=audio_format or "wav",
        subtype=subtype,
        overwrite=overwrite,
    )


def _refuse(options: Mapping[str, object], belongs_to: str) -> None:
    """Raise InputError for options that were given and would not be read."""
    if given := [name for name, value in options.items() if value is not None and value is not False and value != []]:
        raise InputError(f"{', '.join(given)}: only for {belongs_to}")


def _required(model: Path | None) -> Path:
    if model is None:
        raise InputError("vrtool separate needs a trained network: pass --model RUN, a folder that vrtool train wrote")
    return model


def _separate_files(
    inputs: list[Path] | None,
    output: Path | None,
    model: Path | None,
    *,
    device: str,
    precision: Precision,
    audio_format: str,
    subtype: Subtype | None,
    overwrite: bool,
) -> None:
    import time

    from vrtool.separation.files import plan_separation, separate_files

    if not inputs or output is None:
        raise InputError(
            "vrtool separate needs songs and a folder for their stems: vrtool separate INPUT... --output DIR --model "
            "RUN; or --live, to separate what comes on standard input"
        )
    plan = plan_separation(inputs, output, audio_format=audio_format, subtype=subtype)
    if not overwrite and len(inputs) == 1 and inputs[0].is_file():
        _refuse_existing(plan.jobs[0])
    separator = load_separator(_required(model), device, precision)
    began = time.monotonic()
    with progress_bar("separating", "s of audio") as advance:

        def show(progress: SeparationProgress) -> None:
            advance(round(progress.done_seconds), max(1, round(progress.total_seconds)))

        report = separate_files(separator, plan, overwrite=overwrite, on_progress=show)
    _print_report(report, output, elapsed_seconds=time.monotonic() - began)


def _refuse_existing(job: SeparationJob) -> None:
    """Raise InputError if stems of the one song that was asked for are there: skipping it would look like success."""
    from vrtool.separation.files import existing_outputs

    if existing := existing_outputs(job):
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
