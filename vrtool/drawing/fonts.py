"""Fonts for a title in any alphabet: the installed ones that have its letters, and what of it none can draw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

USUAL = "sans-serif"
"""The family of all other text in a picture, which matplotlib knows a font for."""

# It has a box for every letter there is, so that no letter is missing: of no use to readers.
NO_REAL_FONTS = "Last Resort"

LEFT_OUT = "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawableText:
    """What of a text can be drawn, an ellipsis standing for the rest, and the font families that have its letters."""

    text: str
    families: list[str]


def drawable_text(text: str, *, weight: str) -> DrawableText:
    """Return as much of `text` as the installed fonts can draw, in the usual font as far as that goes."""
    missing = set(text) - letters_in(_file_of(USUAL, weight), set(text))
    families = [USUAL]
    candidates = {family: letters_in(path, missing) for family, path in _other_families()} if missing else {}
    # Few fonts rather than many, and always the same ones.
    for family in sorted(candidates, key=lambda family: (-len(candidates[family]), family)):
        # Its file of that weight need not have all letters of the one that was looked into.
        if candidates[family] & missing and (drawn := letters_in(_file_of(family, weight), missing)):
            families.append(family)
            missing -= drawn
    return DrawableText(text=_without(text, missing), families=families)


def letters_in(path: str, letters: set[str]) -> set[str]:
    """Return those of `letters` that the font in a file can draw; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # gone since matplotlib looked for fonts, or of a kind that FreeType cannot read
        return set()
    return {letter for letter in letters if font.get_char_index(ord(letter))}


def _file_of(family: str, weight: str) -> str:
    """Return the file that matplotlib takes for a family's letters."""
    from matplotlib.font_manager import FontProperties, findfont

    return findfont(FontProperties(family=family, weight=weight))


def _other_families() -> Iterator[tuple[str, str]]:
    """Yield the installed families, each with one of its files."""
    from matplotlib.font_manager import fontManager

    files = {font.name: font.fname for font in fontManager.ttflist if font.style == "normal"}
    yield from ((family, path) for family, path in files.items() if not family.startswith(NO_REAL_FONTS))


def _without(text: str, letters: set[str]) -> str:
    if not letters:
        return text
    return re.sub(f"[{re.escape(''.join(letters))}]+", LEFT_OUT, text)
