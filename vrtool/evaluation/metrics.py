"""What can be measured of stems: names of metrics, the numbers each of them gives, and which of two is the better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from vrtool.dataset.track import Kind
from vrtool.errors import InputError

Stem = Literal["vocals", "instrumental"]
STEMS: tuple[Stem, ...] = ("vocals", "instrumental")
STEMS_OF: Mapping[Kind, tuple[Stem, ...]] = {
    "pair": STEMS,
    "instrumental": ("instrumental",),
    "vocal": ("vocals",),
}
"""The stems that there is a truth of: of a song without vocals, and of vocals alone, it is the song itself."""

MetricName = Literal["nsdr", "si-sdr", "bsseval", "bass", "dropouts"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number about a stem. `key` names it in JSON and CSV and ends in its unit, if it is not a count.

    `badness` is the lower the better the stem.
    """

    key: str
    title: str
    metric: MetricName
    badness: Callable[[float], float]
    stems: tuple[Stem, ...] = STEMS
    kinds: tuple[Kind, ...] = ("pair", "instrumental", "vocal")


def _high_is_good(value: float) -> float:
    return -value


def _low_is_good(value: float) -> float:
    return value


_MUSIC: tuple[Stem, ...] = ("instrumental",)

MEASURES = (
    Measure(key="nsdr_db", title="nSDR", metric="nsdr", badness=_high_is_good),
    Measure(key="si_sdr_db", title="SI-SDR", metric="si-sdr", badness=_high_is_good),
    # BSSEval tells a source from the others: it takes two that are heard.
    *(
        Measure(key=f"{name.lower()}_db", title=name, metric="bsseval", badness=_high_is_good, kinds=("pair",))
        for name in ("SDR", "ISR", "SIR", "SAR")
    ),
    # Bass that the vocals leave behind is as wrong as bass that they took along.
    Measure(key="bass_kept_db", title="bass", metric="bass", badness=abs, stems=_MUSIC),
    Measure(key="dropouts", title="drop-outs", metric="dropouts", badness=_low_is_good, stems=_MUSIC),
    Measure(key="dropout_seconds", title="seconds", metric="dropouts", badness=_low_is_good, stems=_MUSIC),
)


def measures_of(metrics: Sequence[MetricName], kind: Kind, stem: Stem) -> tuple[Measure, ...]:
    """Return what `metrics` measure of a stem of a song of this kind."""
    return tuple(
        measure
        for measure in MEASURES
        if measure.metric in metrics and stem in measure.stems and kind in measure.kinds and stem in STEMS_OF[kind]
    )


def parse_metrics(text: str) -> tuple[MetricName, ...]:
    """Return the metrics named in a list such as "nsdr,bass", in their own order; "all" is every one of them.

    Raises InputError for a name that there is not, or none at all.
    """
    names = {name for word in text.split(",") if (name := word.strip().lower())}
    unknown = sorted(names - {*METRICS, "all"})
    if unknown or not names:
        found = ", ".join(unknown) if unknown else "none"
        raise InputError(f"--metrics takes all, or a list of {', '.join(METRICS)}; found {found}")
    return METRICS if "all" in names else tuple(metric for metric in METRICS if metric in names)
