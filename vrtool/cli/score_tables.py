"""The scores of `vrtool evaluate` as tables: one or two for each kind of song and metric, and one of sign tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from vrtool.dataset.track import Kind
    from vrtool.evaluation.metrics import Measure, MetricName, Stem
    from vrtool.evaluation.results import Evaluation, System

    Score = Callable[[System, Stem, str], float | None]

KIND_WORDS = {
    "pair": "",
    "instrumental": ", songs without vocals: how much of them is kept",
    "vocal": ", vocals alone: how much of them is kept",
}
BESIDE: tuple[tuple[System, str], ...] = (("mixture", "mixture"), ("ideal_mask", "ideal mask"))
"""Systems that say what the scores of the others are worth."""

# Metrics of one number stand in one table with both stems; where there are more, each stem has a table.
SINGLE: tuple[tuple[str, MetricName], ...] = (("nSDR in dB", "nsdr"), ("SI-SDR in dB", "si-sdr"))
SEVERAL: tuple[tuple[str, tuple[MetricName, ...]], ...] = (
    ("BSSEval v4 in dB, medians of 1-second frames", ("bsseval",)),
    ("energy below 150 Hz in dB of what should be there; drop-outs and their seconds", ("bass", "dropouts")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading, and the scores that stand side by side under it."""

    heading: str
    scores: tuple[tuple[System, Stem, Measure], ...]

    def cell(self, score: Score) -> str:
        """Return what stands in a row of which `score` knows the numbers."""
        return " / ".join(number(score(system, stem, measure.key), measure) for system, stem, measure in self.scores)


def score_tables(evaluation: Evaluation) -> Iterator[tuple[str, Table]]:
    """Yield the tables of an evaluation with their titles: a row per song, then mean and median."""
    from vrtool.evaluation.metrics import STEMS_OF, measures_of

    for kind in evaluation.kinds:
        for title, metric in SINGLE:
            if metric in evaluation.metrics:
                measures = {stem: measures_of([metric], kind, stem)[0] for stem in STEMS_OF[kind]}
                yield _title(evaluation, kind, title), _stem_table(evaluation, kind, measures)
        for title, group in SEVERAL:
            metrics = [metric for metric in group if metric in evaluation.metrics]
            for stem in STEMS_OF[kind]:
                if found := measures_of(metrics, kind, stem):
                    scores = [(stem, measure) for measure in found]
                    yield _title(evaluation, kind, f"{stem}: {title}"), _measure_table(evaluation, kind, scores)
    if "against" in evaluation.names:
        yield _title(evaluation, "pair", "songs on which one of the two is better"), _sign_table(evaluation)


def number(value: float | None, measure: Measure) -> str:
    """Return a score as it stands in a table: to a tenth, a song's drop-outs as a whole number."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "perfect" if value > 0 else "nothing"
    if measure.key == "dropouts" and value == int(value):
        return str(int(value))
    # Adding zero makes 0.0 of the -0.0 that rounding leaves.
    return f"{round(value, 1) + 0.0:.1f}"


def _title(evaluation: Evaluation, kind: Kind, words: str) -> str:
    names = evaluation.names
    legend = f"; A: {names['estimate']}, B: {names['against']}" if "against" in names else ""
    return f"{words}{KIND_WORDS[kind]}{legend}"


def _letters(evaluation: Evaluation) -> tuple[tuple[System, str], ...]:
    return (("estimate", "\nA"), ("against", "\nB")) if "against" in evaluation.names else (("estimate", ""),)


def _stem_table(evaluation: Evaluation, kind: Kind, measures: dict[Stem, Measure]) -> Table:
    """Return a table with a column for each stem, and one for each system beside if there is room."""
    if "against" in evaluation.names or kind != "pair":
        return _measure_table(evaluation, kind, [*measures.items()], headings=[*measures])
    columns = [Column(heading=stem, scores=(("estimate", stem, measure),)) for stem, measure in measures.items()]
    columns += [
        Column(heading=label, scores=tuple((system, stem, measure) for stem, measure in measures.items()))
        for system, label in BESIDE
    ]
    return _table(evaluation, kind, columns)


def _measure_table(
    evaluation: Evaluation,
    kind: Kind,
    scores: Sequence[tuple[Stem, Measure]],
    headings: Sequence[str] | None = None,
) -> Table:
    """Return a table with a column for each score and estimate, and a row for what each system beside reaches."""
    headings = headings or [measure.title for _, measure in scores]
    letters = _letters(evaluation)
    columns = [
        Column(heading=heading + letter, scores=((system, stem, measure),))
        for heading, (stem, measure) in zip(headings, scores, strict=True)
        for system, letter in letters
    ]
    table = _table(evaluation, kind, columns)
    for system, label in BESIDE if kind == "pair" else ():
        cells = [number(evaluation.median(kind, system, stem, measure.key), measure) for stem, measure in scores]
        # In the column of A, for they are the same for both.
        table.add_row(f"{label}, median", *(word for cell in cells for word in (cell, *[""] * (len(letters) - 1))))
    return table


def _table(evaluation: Evaluation, kind: Kind, columns: Sequence[Column]) -> Table:
    table = Table()
    table.add_column("song", overflow="fold")
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for song in evaluation.songs_of(kind):
        table.add_row(escape(song.name), *(column.cell(song.score) for column in columns))
    table.add_section()
    for label, average in (("mean", evaluation.mean), ("median", evaluation.median)):
        cells = [column.cell(lambda *of, average=average: average(kind, *of)) for column in columns]
        table.add_row(label, *cells, style="bold")
    return table


def _sign_table(evaluation: Evaluation) -> Table:
    from vrtool.evaluation.comparison import compare

    table = Table(caption="p: exact two-sided sign test, ties dropped")
    for heading in ("kind", "stem", "measure"):
        table.add_column(heading)
    for heading in ("A better", "B better", "ties", "p"):
        table.add_column(heading, justify="right")
    for test in compare(evaluation):
        counts = (test.num_better, test.num_worse, test.num_ties)
        table.add_row(test.kind, test.stem, test.measure.title, *map(str, counts), f"{test.p_value:.3g}")
    return table
