"""vrtool: prepare, train and run vocal removal.

What a program needs to use a trained network; `import vrtool` itself loads nothing heavy.

load_model(path): the network of a checkpoint or a run folder, ready for use.
__version__: the installed version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vrtool.model.checkpoint import load_model

    __version__: str

__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> object:
    # On first use (PEP 562): torch takes seconds to import, and `vrtool --help` needs none of it.
    if name == "load_model":
        from vrtool.model.checkpoint import load_model

        return load_model
    if name == "__version__":
        from importlib.metadata import version

        return version("vrtool")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
