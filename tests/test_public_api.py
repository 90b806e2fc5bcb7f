"""What `import vrtool` offers, and what it leaves alone until it is needed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import vrtool


def test_importing_vrtool_imports_nothing_heavy() -> None:
    program = "import sys, vrtool; vrtool.__version__; print({'torch', 'numpy', 'h5py'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set()"


def test_the_public_names_are_there() -> None:
    assert vrtool.__version__ == version("vrtool")
    for name in vrtool.__all__:
        assert getattr(vrtool, name) is not None
    assert sorted(vrtool.__all__) == [
        "LiveSeparator", "Separator", "Stems", "VrtoolError", "Waveform", "__version__", "load_model", "read_audio",
        "write_audio",
    ]  # fmt: skip


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_modle'"):
        vrtool.load_modle  # noqa: B018
