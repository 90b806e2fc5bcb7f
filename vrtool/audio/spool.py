"""A track's audio between decoding and the STFT: in memory while it is short, on disk when it is not.

Only when a file has been decoded to its end is its length known for certain, and a pair can only be aligned when both
of its files are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from vrtool.atomic import PARTIAL_MARK
from vrtool.audio.formats import FloatArray

MEMORY_BYTES = 64_000_000
"""The largest spool that stays in memory: three minutes of stereo at 44.1 kHz."""


class Spool:
    """A signal (see `vrtool.audio.signal.Signal`) in a temporary file, which ends with the process."""

    def __init__(self, file: IO[bytes], num_channels: int) -> None:
        self._file = file
        self._num_channels = num_channels
        self._num_samples = 0

    @property
    def num_samples(self) -> int:
        """The number of samples of each channel, as far as they were written."""
        return self._num_samples

    @property
    def num_channels(self) -> int:
        """The number of channels."""
        return self._num_channels

    def append(self, block: FloatArray) -> None:
        """Write the next samples (channel, sample)."""
        self._file.write(np.ascontiguousarray(block.T).data)
        self._num_samples += block.shape[1]

    def read(self, start: int, count: int) -> FloatArray:
        """Return `count` samples from `start` on, float32 (channel, sample)."""
        samples = np.empty((count, self._num_channels), np.float32)
        self._file.seek(start * self._num_channels * 4)
        self._file.readinto(samples.data)  # type: ignore[attr-defined]  # typeshed's IO lacks it
        return samples.T


@contextmanager
def open_spool(folder: Path, num_channels: int) -> Iterator[Spool]:
    """Give a new spool in a folder; nothing of it is left afterwards, not even when the process is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=str(folder), prefix=f".spool{PARTIAL_MARK}-") as file:
            yield Spool(file, num_channels)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(folder)  # which disk is full
        raise
