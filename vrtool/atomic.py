"""Files appear under their name complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vrtool.errors import InputError
from vrtool.locking import try_lock

# Some network and FUSE file systems cannot sync a folder, and a folder one may write to need not be readable.
# By then the file itself is safe and in its place, so only these refusals are forgiven; a real I/O error is
# not.
FOLDER_SYNC_REFUSALS = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM})

# No space left, and a quota used up, which is how a shared disk is full.
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# Readers of a folder tell an unfinished file by this part of its (hidden) name.
PARTIAL_MARK = ".partial"

# Where no lock tells whether somebody still writes a file, a file untouched for this long is taken for abandoned.
ABANDONED_SECONDS = 6 * 3600.0


@contextlib.contextmanager
def atomic_path(destination: Path) -> Iterator[Path]:
    """Yield a temporary path beside `destination`; when the block has ended well, it takes that name.

    The block overwrites the file, which is there and empty, and closes it. The temporary name is hidden, contains
    ".partial" and keeps the suffix, by which writers choose formats. On success the file is synced to the disk and
    renamed over what was there; on any exception, KeyboardInterrupt included, it is removed and `destination` stays as
    it was. OSErrors pass through.
    """
    with _temporary_path(destination, Path.replace) as temporary:
        yield temporary


@contextlib.contextmanager
def new_path(destination: Path) -> Iterator[Path]:
    """Yield a temporary path as `atomic_path` does, for a file that is not to replace any.

    Raises InputError if `destination` is there when the block has ended; it stays as it is.
    """
    with _temporary_path(destination, _place_where_none_is) as temporary:
        yield temporary


@contextlib.contextmanager
def _temporary_path(destination: Path, place: Callable[[Path, Path], object]) -> Iterator[Path]:
    """Yield a temporary path beside `destination`; when the block has ended well, `place` gives it that name."""
    # The stem is cut, so that a name near the file system's limit does not become too long by ours.
    name = f".{destination.stem[:24]}{PARTIAL_MARK}-{secrets.token_hex(4)}{destination.suffix}"
    temporary = destination.with_name(name)
    try:
        with _seen_as_alive(temporary):
            yield temporary
            _sync_file(temporary)
            # Within one folder, hence one file system, replacing is a single step on every platform.
            place(temporary, destination)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            # A temporary name, or none, tells nobody which disk is full.
            error.filename = str(destination)
        # Windows refuses to remove a file that is still open; the first error is the one worth hearing of.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _sync_folder(destination.parent)


def refuse_replacing(destination: Path) -> None:
    """Raise InputError if a file is there, which was not when the one that is to have its name was begun."""
    if destination.exists():
        raise InputError(
            f"{destination}: made by another program in the meantime, and left as it is; ask for it to be overwritten, "
            "or name another output"
        )


def _place_where_none_is(temporary: Path, destination: Path) -> None:
    """Rename a file; raises InputError if another has that name."""
    # Renaming would replace on POSIX, a second name does not; on Windows it is renaming that does not.
    place = os.link if os.name == "posix" else os.rename
    try:
        place(temporary, destination)
    except OSError:
        refuse_replacing(destination)
        # FAT and some network file systems have no second names. There, a file made at this very moment is replaced.
        temporary.replace(destination)
    else:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Delete the temporary files in a folder whose writers were killed, and leave those that are being written."""
    for path in folder.glob(f".*{PARTIAL_MARK}*"):
        # Windows itself refuses to remove what another process has open.
        with contextlib.suppress(OSError):
            if os.name == "posix":
                _remove_if_abandoned(path)
            else:
                path.unlink()


@contextlib.contextmanager
def _seen_as_alive(temporary: Path) -> Iterator[None]:
    """Create a file and keep it locked, by which others see that its writer lives."""
    if os.name != "posix":
        temporary.touch(exist_ok=False)
        yield
        return
    descriptor = _create_locked(temporary)
    try:
        yield
    finally:
        os.close(descriptor)


def _create_locked(path: Path) -> int:
    """Return a descriptor of a new file, locked; made again if it was taken for abandoned before it was locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if try_lock(descriptor) is not False and _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove_if_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        is_free = try_lock(descriptor)
        age_seconds = time.time() - os.fstat(descriptor).st_mtime
        if is_free or (is_free is None and age_seconds > ABANDONED_SECONDS):
            path.unlink()  # with its lock held: a writer who has just made it sees that it is gone
    finally:
        os.close(descriptor)


def _sync_file(path: Path) -> None:
    # Windows syncs only through a handle that may write.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename within `folder` survive a power cut: a name is the folder's data, not the file's."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in FOLDER_SYNC_REFUSALS:
            raise
