"""vrtool: prepare, train and run vocal removal.

What a program needs to use a trained network; `import vrtool` itself loads nothing heavy.

Separator: songs in, stems out, as arrays, files or blocks.
LiveSeparator: one song while it comes, with the least delay.
Waveform, read_audio(path), write_audio(path, waveform): audio in memory, from and to files.
Stems: the two halves of a song.
VrtoolError: what everything raises that goes wrong for a user.
load_model(path): the network of a checkpoint or a run folder alone, ready for use.
__version__: the installed version.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vrtool.audio.waveform import Waveform, read_audio, write_audio
    from vrtool.errors import VrtoolError
    from vrtool.model.checkpoint import load_model
    from vrtool.separation.live import LiveSeparator
    from vrtool.separation.separator import Separator
    from vrtool.separation.stems import Stems

    __version__: str

__all__ = [
    "LiveSeparator",
    "Separator",
    "Stems",
    "VrtoolError",
    "Waveform",
    "__version__",
    "load_model",
    "read_audio",
    "write_audio",
]

_HOMES = {
    "LiveSeparator": "vrtool.separation.live",
    "Separator": "vrtool.separation.separator",
    "Stems": "vrtool.separation.stems",
    "VrtoolError": "vrtool.errors",
    "Waveform": "vrtool.audio.waveform",
    "load_model": "vrtool.model.checkpoint",
    "read_audio": "vrtool.audio.waveform",
    "write_audio": "vrtool.audio.waveform",
}


def __getattr__(name: str) -> object:
    # On first use (PEP 562): torch takes seconds to import, and `vrtool --help` needs none of it.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("vrtool")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
