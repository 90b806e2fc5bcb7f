"""Which fonts a title takes; those that come with matplotlib are there on every machine."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from vrtool.drawing import fonts
from vrtool.drawing.fonts import LEFT_OUT, USUAL, drawable_text, letters_in

NOWHERE = "\U0010fffd"
"""A letter for private use, that fonts have not."""
ARROW = "\u2900"
"""A letter that DejaVu Serif has, and the usual font has not."""


def test_what_the_usual_font_has_takes_no_other() -> None:
    found = drawable_text("Für Elise – Ελίζα, Элизе", weight="bold")
    assert (found.text, found.families) == ("Für Elise – Ελίζα, Элизе", [USUAL])


def test_letters_that_it_has_not_take_a_font_that_has_them() -> None:
    found = drawable_text(f"a {ARROW} b", weight="bold")
    assert found.text == f"a {ARROW} b"
    usual, other = found.families
    assert usual == USUAL
    assert letters_in(fonts._file_of(other, "bold"), {ARROW}) == {ARROW}


def test_letters_that_no_font_has_are_left_out() -> None:
    found = drawable_text(f"{NOWHERE}{NOWHERE} (live{NOWHERE})", weight="bold")
    assert (found.text, found.families) == (f"{LEFT_OUT} (live{LEFT_OUT})", [USUAL])


def test_brackets_and_dashes_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "letters_in", lambda _, letters: letters & set("ab"))
    assert drawable_text("a]-[^b\\a", weight="bold").text == f"a{LEFT_OUT}b{LEFT_OUT}a"


def test_a_font_that_cannot_be_read_has_no_letters(tmp_path: Path) -> None:
    (tmp_path / "font.ttf").write_bytes(b"no font")
    assert letters_in(str(tmp_path / "font.ttf"), {"a"}) == set()
    assert letters_in(str(tmp_path / "gone.ttf"), {"a"}) == set()
