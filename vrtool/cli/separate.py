"""`vrtool separate`: songs in, vocals and instrumental out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vrtool.cli.console import console, errors, print_problems
from vrtool.cli.live import separate_live
from vrtool.cli.network import load_separator
from vrtool.cli.options import (
    BUILTIN,
    REFINEMENT,
    ChannelSwapAverage,
    Device,
    Models,
    NetworkPrecision,
    Postprocess,
    Shifts,
    SongJobs,
    refuse_given,
)
from vrtool.cli.separation_progress import batch_progress
from vrtool.errors import InputError, JobError

if TYPE_CHECKING:
    from vrtool.separation.files import SeparationReport
    from vrtool.separation.plan import SeparationJob, SeparationPlan, StemFiles
    from vrtool.separation.separator import Separator
    from vrtool.separation.song_file import StemName

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="INPUT", help="Songs, folders of songs in any depth, or one batch in JSON."),
]
DEFAULT_OUTPUT = Path("stems")
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for the stems; the inputs' tree is kept in it.",
        show_default=f"{DEFAULT_OUTPUT}, or what a batch says",
    ),
]
WantedStem = Annotated[
    Literal["vocals", "instrumental", "both"] | None,
    typer.Option("--stem", help="What to write (both; with --live, instrumental)."),
]
Format = Annotated[str, typer.Option("--format", help="wav, flac, ogg or mp3.")]
WavSubtype = Annotated[
    Literal["8", "16", "24", "32", "32f"] | None,
    typer.Option(
        "--subtype", help="Sample format of wav, or of flac: 8, 16, 24 (the song's own; of lossy songs the best)."
    ),
]
Filename = Annotated[
    str | None, typer.Option("--filename", help="Names within the output folder ({track}/{stem}.{ext}).")
]
Clipping = Annotated[
    Literal["warn", "rescale", "clamp"],
    typer.Option(
        "--clip-mode", help="Beyond full scale, but in 32f: clip and say so (warn), turn the song down, or just clip."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Separate again what is there, and replace it.")]
Images = Annotated[bool, typer.Option("--images", help="Draw spectrograms of mixture and stems beside them.")]

LIVE = "With --live"
"""The heading of the options that only a stream needs."""
Live = Annotated[
    bool,
    typer.Option("--live", help="Raw PCM from standard input, one stem to standard output.", rich_help_panel=LIVE),
]
Pcm = Annotated[
    Literal["s16le", "s24le", "s32le", "f32le"],
    typer.Option("--pcm", help="Interleaved samples of input and output, in ffmpeg's words.", rich_help_panel=LIVE),
]
SampleRate = Annotated[
    int | None,
    typer.Option("--sample-rate", metavar="HZ", help="Of input and output (the network's own).", rich_help_panel=LIVE),
]
Channels = Annotated[int, typer.Option("--channels", metavar="1|2", help="Of input and output.", rich_help_panel=LIVE)]

OF_FILES = (
    "inputs", "output", "audio_format", "subtype", "filename", "clip_mode", "jobs", "overwrite", "images", "precision",
    *REFINEMENT,
)  # fmt: skip
OF_STREAMS = ("pcm", "sample_rate", "channels")


def separate(
    context: typer.Context,
    inputs: Inputs = None,
    output: Output = None,
    models: Models = None,
    device: Device = "auto",
    stem: WantedStem = None,
    audio_format: Format = "wav",
    subtype: WavSubtype = None,
    filename: Filename = None,
    clip_mode: Clipping = "warn",
    jobs: SongJobs = 1,
    overwrite: Overwrite = False,
    images: Images = False,
    precision: NetworkPrecision = "auto",
    shifts: Shifts = 1,
    channel_swap_average: ChannelSwapAverage = False,
    postprocess: Postprocess = False,
    live: Live = False,
    pcm: Pcm = "s16le",
    sample_rate: SampleRate = None,
    channels: Channels = 2,
) -> None:
    """Split songs into vocals and instrumental, written to stems/<song>/{vocals,instrumental}.wav.

    Stems have the song's own sample rate, channels, bit depth and length, and sum to it. Songs whose stems are there
    are skipped.

    As a song plays: ffmpeg -i song.mp3 -f s16le -ac 2 -ar 44100 - | vrtool separate --live -m RUN | aplay -f cd
    """
    if live:
        refuse_given(
            context,
            OF_FILES,
            "only for songs in files, --live reads standard input and writes standard output; leave out one",
        )
        separate_live(
            model=_only(models),
            device=device,
            stem=_one_stem(stem),
            pcm=pcm,
            sample_rate=sample_rate,
            num_channels=channels,
        )
        return
    refuse_given(context, OF_STREAMS, "only for --live, and files say it themselves; leave it out, or add --live")
    from vrtool.drawing.song_picture import require_matplotlib
    from vrtool.separation.combining import Refinement
    from vrtool.separation.plan import DEFAULT_FILENAME, StemFiles
    from vrtool.separation.song_file import STEM_NAMES, StemFormat

    files = StemFiles(
        stem_format=StemFormat(name=audio_format, subtype=subtype, clip_mode=clip_mode),
        stems=STEM_NAMES if stem is None or stem == "both" else (stem,),
        filename=filename or DEFAULT_FILENAME,
        images=images,
    )
    if images:
        require_matplotlib()
    plan, folder = _plan(inputs, output, files)
    if not overwrite and len(plan.jobs) == 1 and inputs and inputs[0].is_file() and not _is_batch(inputs[0]):
        _refuse_existing(plan.jobs[0])
    refinement = Refinement(shifts=shifts, channel_swap_average=channel_swap_average, postprocess=postprocess)
    separator = load_separator(models or [Path(BUILTIN)], device, precision, refinement=refinement)
    _run(separator, plan, folder, overwrite=overwrite, num_jobs=jobs)


def _only(models: list[Path] | None) -> Path:
    if not models or models == [Path(BUILTIN)]:
        raise InputError(
            "--live needs a network that looks only so many frames ahead, which the built-in one does not: pass "
            "--model RUN, a folder that vrtool train wrote with recipes/autoregressive.toml"
        )
    if len(models) > 1:
        raise InputError(f"--live goes with one --model, found {len(models)}; leave out the others")
    return models[0]


def _one_stem(stem: Literal["vocals", "instrumental", "both"] | None) -> StemName:
    if stem == "both":
        raise InputError("--stem both: only for songs in files, --live writes one stem; say vocals or instrumental")
    return stem or "instrumental"


def _plan(inputs: list[Path] | None, output: Path | None, files: StemFiles) -> tuple[SeparationPlan, Path]:
    """Return what is to be done with files and folders, or as a JSON batch says, and the output folder."""
    from vrtool.separation.batch_file import read_batch
    from vrtool.separation.plan import plan_separation

    batches = [path for path in inputs or () if _is_batch(path)]
    if not batches:
        if not inputs:
            raise InputError(
                "vrtool separate needs songs: vrtool separate INPUT... [--output DIR]; or --live, to separate what "
                "comes on standard input"
            )
        folder = output or DEFAULT_OUTPUT
        return plan_separation(inputs, folder, files=files), folder
    if inputs != batches or len(batches) > 1:
        raise InputError(f"{batches[0]}: a batch says itself what to separate; give it alone, or the songs without it")
    batch = read_batch(batches[0])
    folder = output or batch.output
    return plan_separation(batch.convert, folder, files=files, copies=batch.copy), folder


def _is_batch(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _run(separator: Separator, plan: SeparationPlan, output: Path, *, overwrite: bool, num_jobs: int) -> None:
    import time

    from vrtool.separation.files import separate_files

    began = time.monotonic()
    with batch_progress() as show:
        report = separate_files(separator, plan, overwrite=overwrite, num_jobs=num_jobs, on_progress=show)
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
            _say_of(
                done.job,
                f"{done.num_clipped} samples beyond full scale were clipped; --clip-mode rescale or "
                "--subtype 32f keeps them",
            )
        if done.gain_db < 0:
            _say_of(done.job, f"turned down by {-done.gain_db:.2f} dB, so that nothing is clipped")
    seconds = sum(done.duration_seconds for done in report.separated)
    summary = f"{_songs(len(report.separated))} separated into {output}"
    if report.separated:
        summary += (
            f": {seconds:.1f} s of audio in {elapsed_seconds:.1f} s, {seconds / elapsed_seconds:.1f} times real time"
        )
    console.print(summary, markup=False, soft_wrap=True)
    if report.num_copied:
        console.print(f"{_songs(report.num_copied)} copied", markup=False)
    if report.skipped:
        console.print(
            f"{_songs(len(report.skipped))} skipped, stems already there; --overwrite separates again", markup=False
        )
    if report.problems:
        print_problems(report.problems, "the rest is done")
        raise JobError(f"{_songs(len(report.problems))} could not be separated")


def _say_of(job: SeparationJob, sentence: str) -> None:
    errors.print(f"{job.track}: {sentence}", markup=False, soft_wrap=True)


def _songs(count: int) -> str:
    return "1 song" if count == 1 else f"{count} songs"
