"""The parts of a report about how training went: key numbers, curves, a table of songs, facts. HTML texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from vrtool.watching.chart import Curve, line_chart
from vrtool.watching.history import History, Line, points
from vrtool.watching.record import ModelFacts, RunRecord
from vrtool.watching.scale import from_zero, linear_scale
from vrtool.watching.words import NOTHING, STEMS, amount, decibels, duration, parsed_time, short_time

MOST_BAD_STEPS = 20
"""As many as a page shows of what may be thousands."""


def tiles(record: RunRecord) -> str:
    """Return the few numbers that are looked for first."""
    history, best = record.history, record.history.best_validation or {}
    last = history.training[-1] if history.training else {}
    # Runs of before skipped steps were logged one by one have their number; reports of it come every some steps.
    num_skipped = max(last.get("num_skipped_steps", 0), len(history.bad_steps))
    best_step = f"step {best['step']:,}, lowest loss" if best else "no validation"
    entries = [
        ("nSDR vocals", f"{decibels(best.get('vocals_nsdr_db'))} dB", best_step),
        ("nSDR instrumental", f"{decibels(best.get('instrumental_nsdr_db'))} dB", best_step),
        ("steps", f"{history.last_step:,}", f"of {last['num_steps']:,}" if "num_steps" in last else ""),
        ("skipped steps", f"{num_skipped:,}", "gradients were not finite"),
        ("training time", duration(training_seconds(history)), f"in {_count(len(history.sessions), 'session')}"),
    ]
    if record.model is not None:
        parameters = f"{amount(record.model.num_parameters)}"
        entries.append(("parameters", parameters, record.model.architecture.replace("_", " ")))
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(detail)}</small></dd></div>"
        for name, value, detail in entries
    )
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def training_seconds(history: History) -> float:
    """Return how long a run was at work: from each session's start to its last line, the time between them left out."""
    starts = [time for time in (parsed_time(line.get("time")) for line in history.sessions) if time is not None]
    times = [time for time in (parsed_time(line.get("time")) for line in history.training) if time is not None]
    total = 0.0
    for start, following in pairwise([*starts, None]):
        assert start is not None
        within = [time for time in times if time >= start and (following is None or time < following)]
        total += (max(within) - start).total_seconds() if within else 0.0
    return total


def curves(history: History) -> str:
    """Return the charts of a run."""
    training, validation = history.training, history.validation
    stems = [
        Curve(label=stem, points=points(validation, f"{stem}_nsdr_db"), style=style) for style, stem in enumerate(STEMS)
    ]
    losses = [
        Curve(label="training", points=_like_validation(training)),
        Curve(label="validation", points=points(validation, "loss"), style=1),
    ]
    charts = [
        line_chart("Loss", "mean absolute error of magnitudes", losses),
        line_chart("nSDR", "dB, of validation examples", stems, scale=linear_scale),
        line_chart("Learning rate", "", [_only(training, "learning_rate")], scale=from_zero),
        line_chart("Gradient norm", "before clipping", [_only(training, "gradient_norm")]),
        line_chart("Speed", "examples per second", [_only(training, "examples_per_second", style=2)], scale=from_zero),
        line_chart("Time", "% of it", _time_curves(training), scale=from_zero),
    ]
    return f'<h2>Curves</h2><div class="charts">{"".join(charts)}</div>'


def _like_validation(training: Sequence[Line]) -> Sequence[tuple[float, float]]:
    """Return the training loss in validation's terms where it has them: the L1 of magnitudes among several terms."""
    l1 = [{"step": line["step"], **line["loss_terms"]} for line in training if line.get("loss_terms")]
    return points(l1, "l1") or points(training, "loss")


def _time_curves(training: Sequence[Line]) -> list[Curve]:
    """Return what is to be small, waiting, beside what the time is for."""
    shares = [{"step": line["step"], **line["time_shares"]} for line in training if line.get("time_shares")]
    phases = {"data": "waiting for data", "forward": "forward", "backward": "backward"}
    return [
        Curve(label=label, points=points(shares, phase, factor=100.0), style=style)
        for style, (phase, label) in enumerate(phases.items())
    ]


def _only(lines: Sequence[Line], name: str, *, style: int = 0, factor: float = 1.0) -> Curve:
    return Curve(label=name.replace("_", " "), points=points(lines, name, factor=factor), style=style)


def song_table(history: History) -> str:
    """Return the scores of each validation song at the best and at the last validation; nothing without songs."""
    best = history.best_validation
    if best is None or not best.get("songs"):
        return ""
    last = history.validation[-1]
    later = {(song["kind"], song["name"]): song for song in last.get("songs", ())} if last is not best else {}
    songs = sorted(best["songs"], key=lambda song: (song["kind"] != "pair", song["name"]))
    rows = "".join(_song_row(song, later.get((song["kind"], song["name"]))) for song in songs)
    mixture = {name: _mean_over_crops(songs, name) for name in (f"mixture_{stem}_nsdr_db" for stem in STEMS)}
    total = _cells({**best, **mixture}, last if later else None)
    heads = "".join(f"<th>{stem}</th><th>mixture</th>" for stem in STEMS) + (
        "".join(f"<th>{stem}, step {last['step']:,}</th>" for stem in STEMS) if later else ""
    )
    return (
        f"<h2>Songs kept for validation</h2>"
        f'<p class="explanation">nSDR in dB at step {best["step"]:,}, which had the lowest loss; beside each stem, '
        "what the mixture itself scores if it is taken for that stem. Each is a mean over short crops; whole songs may "
        "score otherwise. + marks music that voices of other tracks were mixed into.</p>"
        f'<div class="table"><table class="scores"><thead><tr><th>song</th><th class="crops">crops</th>{heads}</tr>'
        f"</thead><tbody>{rows}</tbody><tfoot>"
        f'<tr><th>all</th><td class="crops">{sum(song["num_examples"] for song in songs)}</td>{total}</tr></tfoot>'
        "</table></div>"
    )


def _song_row(song: Mapping[str, Any], later: Mapping[str, Any] | None) -> str:
    mark = " +" if song["kind"] == "instrumental" else ""
    return (
        f"<tr><th>{escape(song['name'])}{mark}</th>"
        f'<td class="crops">{song["num_examples"]}</td>{_cells(song, later)}</tr>'
    )


def _mean_over_crops(songs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    scored = [song for song in songs if song.get(name) is not None]
    num_crops = sum(song["num_examples"] for song in scored)
    return sum(song["num_examples"] * song[name] for song in scored) / num_crops if num_crops else None


def _cells(scores: Mapping[str, Any], later: Mapping[str, Any] | None) -> str:
    """Return the cells of a row: each stem beside the mixture's score, coloured by which is better."""
    cells = []
    for stem in STEMS:
        score, mixture = scores.get(f"{stem}_nsdr_db"), scores.get(f"mixture_{stem}_nsdr_db")
        style = "" if score is None or mixture is None else ("better" if score > mixture else "worse")
        cells.append(f'<td class="{style}">{decibels(score)}</td><td class="soft">{decibels(mixture)}</td>')
    if later is not None:
        cells += [f"<td>{decibels(later.get(f'{stem}_nsdr_db'))}</td>" for stem in STEMS]
    return "".join(cells)


def skipped_steps(history: History) -> str:
    """Return a table of the last steps that were skipped, and how to look into them; nothing if there is none."""
    if not history.bad_steps:
        return ""
    rows = "".join(
        f"<tr><th>{line['step']:,}</th><td>{short_time(line.get('time'))}</td>"
        f"<td>{escape(str(line.get('reason', NOTHING)))}</td><td>{escape(str(line.get('file') or NOTHING))}</td></tr>"
        for line in history.bad_steps[-MOST_BAD_STEPS:]
    )
    return (
        '<h2>Skipped steps</h2><p class="explanation">They changed nothing. vrtool train --replay RUN/FILE shows what '
        f"one was made of. The last {MOST_BAD_STEPS} are shown.</p>"
        '<div class="table"><table class="facts"><thead><tr>'
        f"<th>step</th><th>time</th><th>reason</th><th>file</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def recipe(text: str) -> str:
    """Return the recipe as it was written."""
    return f"<h2>Recipe</h2><pre>{escape(text.strip())}</pre>"


def facts(record: RunRecord) -> str:
    """Return what the run was made with: network, times, machine, versions."""
    sessions = record.history.sessions
    table = f"<h2>Made with</h2>{_fact_table(_run_facts(record))}"
    if not sessions:
        return table
    versions = sessions[-1].get("versions", {})
    return f"{table}<h2>Versions</h2>{_fact_table((name, str(number)) for name, number in versions.items())}"


def _run_facts(record: RunRecord) -> list[tuple[str, str]]:
    history, sessions = record.history, record.history.sessions
    rows: list[tuple[str, str]] = []
    if sessions:
        last = sessions[-1]
        rows += [
            ("started", short_time(sessions[0].get("time"))),
            ("last step", short_time(history.training[-1].get("time")) if history.training else NOTHING),
            ("device", f"{last.get('device', NOTHING)}, {last.get('device_name', NOTHING)}"),
            ("threads", f"{last.get('threads', NOTHING)}, on {last.get('cores', NOTHING)} cores"),
            ("platform", str(last.get("platform", NOTHING))),
            ("cache", str(last.get("cache", NOTHING))),
        ]
        rows += [("resumed", f"{short_time(line.get('time'))}, at step {line['step']:,}") for line in sessions[1:]]
    return [*rows, *_model_facts(record.model)]


def _model_facts(model: ModelFacts | None) -> list[tuple[str, str]]:
    if model is None:
        return []
    return [
        ("network", model.architecture),
        ("parameters", f"{model.num_parameters:,}"),
        ("checkpoint", f"{model.file}, {model.file_bytes / 1e6:,.1f} MB, step {model.progress.get('step', NOTHING)}"),
    ]


def _fact_table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="table"><table class="facts"><tbody>{cells}</tbody></table></div>'


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
