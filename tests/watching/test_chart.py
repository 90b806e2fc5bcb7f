from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from vrtool.watching.chart import HEIGHT, MAX_DOTS, MAX_POINTS, WIDTH, Curve, line_chart, thin


def corners(figure: ET.Element) -> list[list[tuple[float, float]]]:
    lines = figure.iter("polyline")
    return [
        [(float(x), float(y)) for x, y in re.findall(r"([-\d.]+),([-\d.]+)", line.get("points", ""))] for line in lines
    ]


def test_a_higher_value_is_drawn_higher_and_a_later_step_further_right() -> None:
    figure = ET.fromstring(line_chart("Loss", "dB", [Curve(label="a", points=[(1, 1.0), (2, 3.0), (3, 2.0)])]))
    ((first, second, third),) = corners(figure)
    assert first[0] < second[0] < third[0]
    assert second[1] < third[1] < first[1]


def test_all_curves_of_a_chart_lie_within_it_on_one_scale() -> None:
    curves = [
        Curve(label="a", points=[(10, 5.0), (20, 7.0)]),
        Curve(label="b", points=[(20, 7.0), (30, -2.0)], style=1),
    ]
    first, second = corners(ET.fromstring(line_chart("nSDR", "dB", curves)))
    assert first[1] == second[0]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in first + second)


def test_each_dot_tells_its_value() -> None:
    figure = ET.fromstring(line_chart("nSDR", "dB", [Curve(label="vocals", points=[(1000, 5.25)])]))
    assert [title.text for title in figure.iter("title")] == ["vocals, step 1,000: 5.25"]


def test_names_are_text_whatever_they_hold() -> None:
    curves = [Curve(label="<b>&", points=[(0, 1.0)]), Curve(label="c", points=[(0, 2.0)])]
    figure = ET.fromstring(line_chart('a"<i>', "<u>", curves))
    assert not list(figure.iter("i")) + list(figure.iter("u"))
    assert "<b>&" in "".join(figure.itertext())


def test_a_chart_of_nothing_says_so() -> None:
    assert "not recorded" in line_chart("Loss", "dB", [Curve(label="a", points=[])])


@pytest.mark.parametrize("number", [1, MAX_POINTS, MAX_POINTS + 1, 5 * MAX_POINTS, 12345])
def test_many_points_are_averaged_to_few_and_the_last_stays(number: int) -> None:
    points = [(float(step), 2.0 * step) for step in range(number)]
    thinned = thin(points)
    assert len(thinned) <= MAX_POINTS
    assert len(thinned) >= min(number, MAX_POINTS // 2)
    assert thinned[-1] == points[-1]
    assert all(value == pytest.approx(2.0 * step) for step, value in thinned)
    assert line_chart("a", "b", [Curve(label="c", points=points)]).count("<circle") == (
        number if number <= MAX_DOTS else 0
    )
