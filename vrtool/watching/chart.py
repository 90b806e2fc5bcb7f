"""Curves as inline SVG, whose colours are the page's: drawn without a script, sharp at any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from vrtool.watching.history import Points
from vrtool.watching.scale import Scale, step_scale, tick_label, value_scale

WIDTH, HEIGHT = 440.0, 225.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 12.0, 10.0, 40.0
"""Room around the curves for what is written there."""
MAX_POINTS = 400
"""More would only make the page larger: neighbours are averaged."""
MAX_DOTS = 60
"""Up to so many points are shown as dots, which tell their values to a pointer that rests on them."""

MakeScale = Callable[[Sequence[float]], Scale]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a chart; `style` picks one of the page's colours, from 0."""

    label: str
    points: Points
    style: int = 0


def line_chart(title: str, unit: str, curves: Sequence[Curve], *, scale: MakeScale = value_scale) -> str:
    """Return a figure of `curves` over steps, as HTML that says so where none has a point.

    `scale` makes the upward axis from the values.
    """
    drawn = [curve for curve in curves if curve.points]
    name = f'<span><b>{escape(title)}</b> <span class="soft">{escape(unit)}</span></span>'
    heading = f"<figcaption>{name}{_legend(drawn)}</figcaption>"
    if not drawn:
        return f'<figure class="chart">{heading}<p class="nothing">not recorded</p></figure>'
    thinned = [Curve(label=curve.label, points=thin(curve.points), style=curve.style) for curve in drawn]
    x = step_scale(max(step for curve in thinned for step, _ in curve.points))
    y = scale([value for curve in thinned for _, value in curve.points])
    parts = [*_axes(x, y), *(_line(curve, x, y) for curve in thinned), *(_dots(curve, x, y) for curve in thinned)]
    picture = (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(title)} over steps">'
        f"{''.join(parts)}</svg>"
    )
    return f'<figure class="chart">{heading}{picture}</figure>'


def thin(points: Points, max_points: int = MAX_POINTS) -> Points:
    """Return at most `max_points` points: means of neighbours if there are more, the last point as it is."""
    if len(points) <= max_points:
        return points
    size = -(-(len(points) - 1) // (max_points - 1))
    groups = [points[start : min(start + size, len(points) - 1)] for start in range(0, len(points) - 1, size)]
    means = [(_mean([step for step, _ in group]), _mean([value for _, value in group])) for group in groups]
    return [*means, points[-1]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _legend(curves: Sequence[Curve]) -> str:
    if len(curves) < 2:
        return ""
    entries = (f'<span class="key style-{curve.style}">{escape(curve.label)}</span>' for curve in curves)
    return f'<span class="legend">{"".join(entries)}</span>'


def _axes(x: Scale, y: Scale) -> list[str]:
    """Return the grid, its numbers, and what these stand for."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in y.ticks:
        height = _height(tick, y)
        parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{right:g}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(_text(LEFT - 8, height + 4.5, tick_label(tick), "end"))
    for tick in x.ticks:
        across = _across(tick, x)
        parts.append(
            f'<line class="tick" x1="{across:.1f}" x2="{across:.1f}" y1="{bottom:g}" y2="{bottom + 5:g}"/>'
            f"{_text(across, bottom + 18, tick_label(tick), 'middle')}"
        )
    parts.append(f'<line class="axis" x1="{LEFT:g}" x2="{right:g}" y1="{bottom:g}" y2="{bottom:g}"/>')
    parts.append(_text((LEFT + right) / 2, HEIGHT - 5, "step", "middle"))
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(curve: Curve, x: Scale, y: Scale) -> str:
    corners = " ".join(f"{_across(step, x):.1f},{_height(value, y):.1f}" for step, value in curve.points)
    return f'<polyline class="curve style-{curve.style}" points="{corners}"/>'


def _dots(curve: Curve, x: Scale, y: Scale) -> str:
    if len(curve.points) > MAX_DOTS:
        return ""
    return "".join(
        f'<circle class="dot style-{curve.style}" cx="{_across(step, x):.1f}" cy="{_height(value, y):.1f}" r="2.6">'
        f"<title>{escape(curve.label)}, step {step:,.0f}: {value:.4g}</title></circle>"
        for step, value in curve.points
    )


def _across(step: float, x: Scale) -> float:
    return LEFT + x.share(step) * (WIDTH - RIGHT - LEFT)


def _height(value: float, y: Scale) -> float:
    return HEIGHT - BOTTOM - y.share(value) * (HEIGHT - BOTTOM - TOP)
