"""`vrtool report`: a run as one page to look at and to listen to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vrtool.cli.console import console
from vrtool.cli.options import Device


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run of vrtool train, finished or not.")],
    cache: Annotated[
        Path | None, typer.Option(help="Cache with the songs to listen to, if it is not where the run found it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file to write (RUN/report.html).", dir_okay=False)
    ] = None,
    device: Device = "auto",
) -> None:
    """Write a run's report: curves, scores per song, players, spectrograms, recipe and versions in one HTML file."""
    from vrtool.model.memory import keep_freed_memory
    from vrtool.training.run_folder import RunFolder
    from vrtool.watching.report import write_report

    keep_freed_memory()
    folder = RunFolder(path=run)
    record = write_report(folder, cache=cache, device=device, output=output or folder.report)
    for note in record.notes:
        console.print(note, soft_wrap=True, markup=False)
    console.print(f"{output or folder.report}: open it in a browser", soft_wrap=True, markup=False)
