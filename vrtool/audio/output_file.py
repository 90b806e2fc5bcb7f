"""The file below libsndfile, which keeps what libsndfile does not tell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self


class OutputFile:
    """A file that remembers why a write failed: libsndfile does not tell a full disk from other troubles.

    It has the methods that python-soundfile asks of a file, which begins after `head`, bytes that are written first.
    Unbuffered, so that each failure shows at its write.
    """

    def __init__(self, path: Path, head: bytes = b"") -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None
        self._start = 0
        self.write(head)
        self._start = len(head)
        self.read = self._file.read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place and return it."""
        return self._file.seek(offset + self._start if whence == os.SEEK_SET else offset, whence) - self._start

    def tell(self) -> int:
        """Return the present place."""
        return self._file.tell() - self._start

    def write(self, data: bytes) -> int:
        """Write `data`; return the number of bytes written, fewer than there are if the disk refuses."""
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:
            self._error = self._error or error
        return written

    def raise_disk_error(self, destination: Path) -> None:
        """Raise the first error of the disk, if there was one, as one of `destination`."""
        if self._error is not None:
            self._error.filename = str(destination)
            raise self._error
