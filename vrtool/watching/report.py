"""A run as one HTML file that needs no other, no script and no network: to look at, to listen to, to keep."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from vrtool.atomic import atomic_path
from vrtool.training.run_folder import RunFolder
from vrtool.watching import sections
from vrtool.watching.players import listening
from vrtool.watching.record import RunRecord, collect_record


def write_report(folder: RunFolder, *, cache: Path | None = None, device: str = "auto", output: Path) -> RunRecord:
    """Write the report of the run in `folder` to the file `output`; return what it tells.

    Raises InputError if the folder is not that of a run, or of a `cache` that is given and not one; OSErrors pass.
    """
    record = collect_record(folder, cache, device=device)
    page = render(record, written=datetime.now(UTC))
    with atomic_path(output) as partial:
        partial.write_text(page, encoding="utf-8")
    return record


def render(record: RunRecord, *, written: datetime) -> str:
    """Return the page that shows a run."""
    history = record.history
    parts = (
        sections.tiles(record),
        sections.curves(history),
        sections.song_table(history),
        sections.skipped_steps(history),
        listening(record.songs),
        sections.recipe(record.recipe),
        sections.facts(record),
    )
    return Template(_resource("report.html")).substitute(
        title=escape(f"{record.name} – vrtool"),
        style=_resource("report.css").strip(),
        name=escape(record.name),
        summary=escape(_summary(record)),
        notes="".join(f'<p class="note">{escape(note)}</p>' for note in record.notes),
        sections="\n".join(part for part in parts if part),
        written=f"{written:%Y-%m-%d %H:%M} UTC",
        version=escape(version("vrtool")),
    )


def _summary(record: RunRecord) -> str:
    history = record.history
    last = history.training[-1] if history.training else {}
    num_steps = last.get("num_steps")
    if num_steps is None:
        return "No step is reported yet."
    if history.last_step >= num_steps:
        return f"Finished after {num_steps:,} steps."
    return f"{history.last_step:,} of {num_steps:,} steps are done."


def _resource(name: str) -> str:
    return files("vrtool.watching").joinpath(name).read_text(encoding="utf-8")
