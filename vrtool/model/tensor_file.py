"""Writes safetensors files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vrtool.atomic import atomic_path


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors to `path`, whole or not at all; each is contiguous, with memory of its own. OSErrors pass."""
    with atomic_path(path) as temporary:
        # safetensors makes files for their owner's eyes only; ours are to be as readable as any new file here.
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(tensors, temporary, metadata=dict(metadata))
        except SafetensorError as error:
            # The disk's own error comes in words: "... (os error 28)".
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        temporary.chmod(mode)
