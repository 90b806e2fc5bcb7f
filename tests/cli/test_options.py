"""What options say of the library without importing it is true."""

from __future__ import annotations

from typing import get_args

from vrtool.cli import options
from vrtool.model.acceleration import Precision
from vrtool.model.checkpoint import BUILTIN


def test_the_precisions_are_those_of_the_library_and_auto() -> None:
    assert get_args(options.PrecisionName) == ("auto", *get_args(Precision))


def test_the_builtin_weights_have_the_librarys_name() -> None:
    assert options.BUILTIN == BUILTIN
