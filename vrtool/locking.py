"""Locks between processes, of several machines too if they share the file system; they end with their holder."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

RETRY_SECONDS = 0.05


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock that the file `path` stands for, waiting until it is free; the file is made and stays.

    On file systems that know no locks the block runs without one.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        while try_lock(descriptor) is False:
            time.sleep(RETRY_SECONDS)
        yield
    finally:
        os.close(descriptor)  # which gives the lock back


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file unless another process has; None where the file system knows no locks."""
    try:
        _lock(descriptor)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


if sys.platform == "win32":
    import errno
    import msvcrt

    def _lock(descriptor: int) -> None:
        # A byte far behind the data: Windows keeps others from reading what is locked.
        os.lseek(descriptor, 1 << 40, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EDEADLK):
                raise BlockingIOError from error
            raise

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
