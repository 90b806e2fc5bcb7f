"""`vrtool inspect-dataset`: what a cache holds, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrtool.cli.console import console, errors, progress_bar
from vrtool.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from vrtool.dataset.cache import Cache
    from vrtool.dataset.track import Problem
    from vrtool.inspection import DatasetSummary

MOST_PROBLEMS_SHOWN = 40
MOST_NAMES_SHOWN = 3
"""Tracks named where more than these have the same problem."""
WIDE_COLUMNS = 100
CHANNEL_WORDS = {1: "mono", 2: "stereo"}


def inspect_dataset(
    cache: Annotated[Path, typer.Argument(help="Cache made by vrtool prepare.")],
    as_json: AsJson = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare its checksums.")] = False,
    tracks: Annotated[bool, typer.Option("--tracks", help="List every track.")] = False,
) -> None:
    """Show what a cache holds, pool by pool, and which tracks deserve a look.

    The exit code is 1 if --verify finds a damaged file.
    """
    from vrtool.dataset.cache import open_cache, read_manifest
    from vrtool.inspection import find_problems, summarise, verify_files

    # Opening a cache stops at the first file that is missing or cut short; verification names them all.
    data = read_manifest(cache) if verify else open_cache(cache)
    summary, suspicions = summarise(data), find_problems(data)
    damaged: Sequence[Problem] | None = None
    if verify:
        with progress_bar("verifying", "tracks") as advance:
            damaged = verify_files(data, advance)
    if as_json:
        _print_json(data, summary, suspicions, damaged)
    else:
        _print_tables(data, summary, suspicions, damaged, list_tracks=tracks)
    if damaged:
        raise typer.Exit(1)


def _print_json(
    data: Cache, summary: DatasetSummary, suspicions: Sequence[Problem], damaged: Sequence[Problem] | None
) -> None:
    import json
    from dataclasses import asdict

    document = {
        **asdict(summary),
        "problems": [asdict(problem) for problem in suspicions],
        "damaged": None if damaged is None else [asdict(problem) for problem in damaged],
        "tracks": [{"file": str(track.path), "split": track.split, **track.header.to_json()} for track in data.tracks],
    }
    typer.echo(json.dumps(document, indent=1))


def _print_tables(
    data: Cache,
    summary: DatasetSummary,
    suspicions: Sequence[Problem],
    damaged: Sequence[Problem] | None,
    *,
    list_tracks: bool,
) -> None:
    from rich.markup import escape

    stft = summary.stft
    console.print(
        f"[bold]{escape(summary.path)}[/]  {summary.num_tracks} tracks, {summary.duration_seconds / 3600:.2f} hours, "
        f"{_size(summary.num_bytes)}; {stft.sample_rate} Hz, n_fft {stft.n_fft}, hop {stft.hop_length}, "
        f"validation {escape(summary.validation)}",
        soft_wrap=True,
    )
    console.print()
    console.print(_pool_table(summary))
    console.print("[dim]peak, max: median and largest STFT magnitude; level: median RMS where not silent[/]")
    console.print()
    console.print(_source_table(summary))
    if list_tracks:
        console.print()
        console.print(_track_table(data))
    if suspicions:
        console.print(f"\n[bold yellow]{len(suspicions)} things deserve a look:[/]")
        lines = _grouped(suspicions)
        for names, reason in lines[:MOST_PROBLEMS_SHOWN]:
            console.print(f"  [bold]{escape(names)}[/]: {escape(reason)}", soft_wrap=True)
        if len(lines) > MOST_PROBLEMS_SHOWN:
            console.print(f"  and {len(lines) - MOST_PROBLEMS_SHOWN} more (--json has all)")
    if damaged is not None and not damaged:
        console.print(f"\n[green]all {summary.num_tracks} files are as they were written[/]")
    for problem in damaged or ():
        errors.print(f"[bold red]damaged:[/] {escape(problem.path)}: {escape(problem.reason)}", soft_wrap=True)


def _grouped(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    """Return lines of names and reason; tracks with one and the same problem share a line when they are many."""
    by_reason: dict[str, list[str]] = {}
    for problem in problems:
        by_reason.setdefault(problem.reason, []).append(problem.path)
    lines = []
    for reason, names in by_reason.items():
        if len(names) > MOST_NAMES_SHOWN:
            shown = ", ".join(names[:MOST_NAMES_SHOWN])
            lines.append((f"{shown} and {len(names) - MOST_NAMES_SHOWN} more", reason))
        else:
            lines += [(name, reason) for name in names]
    return lines


def _new_table(text_headings: Sequence[str], number_headings: Sequence[str]) -> Table:
    from rich.table import Table

    gap = 2 if console.width >= WIDE_COLUMNS else 1
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, gap, 0, 0))
    for heading in text_headings:
        table.add_column(heading)
    for heading in number_headings:
        table.add_column(heading, justify="right")
    return table


def _pool_table(summary: DatasetSummary) -> Table:
    table = _new_table(("pool", "split"), ("tracks", "hours", "size", "peak", "max", "level dB", "silent", "clipped"))
    for pool in summary.pools:
        table.add_row(
            pool.kind,
            pool.split,
            f"{pool.num_tracks:,}",
            f"{pool.duration_seconds / 3600:.2f}",
            _size(pool.num_bytes),
            f"{pool.median_peak:.0f}",
            f"{pool.largest_peak:.0f}",
            f"{pool.median_level_db:.1f}",
            f"{pool.silence_share:.1%}",
            f"{pool.clipping_share:.3%}",
        )
    return table


def _source_table(summary: DatasetSummary) -> Table:
    from rich.markup import escape

    table = _new_table(("pool", "split", "source files: Hz, channels and libraries, by tracks"), ())
    for pool in summary.pools:
        rates = [f"{count:,} of {rate}" for rate, count in pool.source_sample_rates.items()]
        channels = [
            f"{count:,} {CHANNEL_WORDS.get(number, f'of {number} channels')}"
            for number, count in pool.source_channels.items()
        ]
        libraries = [f"{count:,} {escape(name)}" for name, count in pool.libraries.items()]
        table.add_row(pool.kind, pool.split, f"{', '.join(rates)}; {', '.join(channels)}; in {', '.join(libraries)}")
    return table


def _track_table(data: Cache) -> Table:
    from rich.markup import escape

    table = _new_table(("pool", "split"), ("seconds", "level dB", "silent", "clipped"))
    table.add_column("track", overflow="fold")
    for track in data.tracks:
        header = track.header
        statistics = header.statistics[header.main_role]
        table.add_row(
            header.kind,
            track.split,
            f"{header.duration_seconds:.1f}",
            f"{statistics.level_db:.1f}",
            f"{statistics.silence_share:.1%}",
            f"{statistics.clipping_share:.3%}",
            escape(header.name),
        )
    return table


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
