"""Walk a library's folders: which of its files lie where, in an order that is the same on every machine."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vrtool.audio.formats import AUDIO_SUFFIXES
from vrtool.dataset.track import Problem
from vrtool.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder with those of its files that are wanted and its subfolders, sorted by name; hidden ones are left out."""

    path: Path
    files: tuple[Path, ...]
    folders: tuple[Folder, ...]

    def all_folders(self) -> Iterator[Folder]:
        """Yield this folder and all below it."""
        yield self
        for folder in self.folders:
            yield from folder.all_folders()

    def all_files(self) -> Iterator[Path]:
        """Yield the files of this folder and of all below it."""
        for folder in self.all_folders():
            yield from folder.files


def scan_library(root: Path) -> tuple[Folder, list[Problem]]:
    """Return the tree of a library's audio files, and what in it could not be read. Nothing is decoded.

    Raises InputError unless `root` is a folder with at least one audio file somewhere in it.
    """
    problems: list[Problem] = []

    def is_audio(path: Path) -> bool:
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            return False
        if not path.is_file():
            problems.append(Problem(path=str(path), reason="expected a file, found a broken link"))
            return False
        return True

    folder = scan_folders(root, is_audio, problems, expected="audio files")
    if next(folder.all_files(), None) is None and not problems:
        suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
        raise InputError(f"no audio files in {root}; expected files ending in {suffixes}")
    return folder, problems


def scan_folders(root: Path, is_wanted: Callable[[Path], bool], problems: list[Problem], *, expected: str) -> Folder:
    """Return the tree of the files below `root` that are wanted; folders that cannot be read are added to `problems`.

    Links to folders are followed, but each folder is entered only once, so that loops end. Raises InputError unless
    `root` is a folder; `expected` is what its message says should be in it.
    """
    if not root.exists():
        raise InputError(f"{root}: expected a folder of {expected}, found nothing of that name")
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder of {expected}, found a file; give the folder it lies in")
    return _scan(root, is_wanted, set(), problems)


def existing_folder(path: Path) -> Path:
    """Return the folder itself or, until it is made, the nearest one around it that is there; absolute."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def first_names(paths: Sequence[Path]) -> str:
    """Return the names of the first three files, for a message about all of them."""
    return ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")


def printable_name(name: str) -> str:
    """Return a file's name in Unicode's composed form (NFC), what is not valid UTF-8 in it replaced.

    macOS hands out decomposed names and most other systems composed ones: the same letters, other code
    points.
    """
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))


def comparable_name(name: str) -> str:
    """Return what two names have in common that differ only in case or in Unicode's form."""
    return unicodedata.normalize("NFC", printable_name(name).casefold())


def _is_hidden(name: str) -> bool:
    # Two dots or more begin a title ("...Baby One More Time"), one dot what systems and unfinished writers hide.
    return name.startswith(".") and not name.startswith("..")


def _scan(
    path: Path, is_wanted: Callable[[Path], bool], entered: set[tuple[int, int]], problems: list[Problem]
) -> Folder:
    files: list[Path] = []
    folders: list[Folder] = []
    try:
        status = path.stat()
        entered.add((status.st_dev, status.st_ino))
        entries = [entry for entry in path.iterdir() if not _is_hidden(entry.name)]
        # The exact name decides between names that differ in case only.
        for entry in sorted(entries, key=lambda entry: (comparable_name(entry.name), entry.name)):
            if entry.is_dir():
                status = entry.stat()
                if (status.st_dev, status.st_ino) not in entered:
                    folders.append(_scan(entry, is_wanted, entered, problems))
            elif is_wanted(entry):
                files.append(entry)
    except OSError as error:
        problems.append(Problem(path=str(path), reason=f"the folder cannot be read ({error.strerror})"))
    return Folder(path=path, files=tuple(files), folders=tuple(folders))
