"""Walk a library's folders: which audio files lie where, in an order that is the same on every machine."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vrtool.audio.formats import AUDIO_SUFFIXES
from vrtool.dataset.track import Problem
from vrtool.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder with its audio files and its subfolders, both sorted by name; hidden ones are left out."""

    path: Path
    files: tuple[Path, ...]
    folders: tuple[Folder, ...]

    def all_files(self) -> Iterator[Path]:
        """Yield the audio files of this folder and of all below it."""
        yield from self.files
        for folder in self.folders:
            yield from folder.all_files()


def scan_library(root: Path) -> tuple[Folder, list[Problem]]:
    """Return the tree of a library, and what in it could not be read. Nothing is decoded.

    Links to folders are followed, but each folder is entered only once, so that loops end. Raises InputError
    unless `root` is a folder with at least one audio file somewhere in it.
    """
    if not root.exists():
        raise InputError(f"{root}: expected a folder of audio files, found nothing of that name")
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder of audio files, found a file; give the folder it lies in")
    problems: list[Problem] = []
    folder = _scan(root, set(), problems)
    if next(folder.all_files(), None) is None and not problems:
        suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
        raise InputError(f"no audio files in {root}; expected files ending in {suffixes}")
    return folder, problems


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


def _scan(path: Path, entered: set[tuple[int, int]], problems: list[Problem]) -> Folder:
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
                    folders.append(_scan(entry, entered, problems))
            elif entry.suffix.lower() in AUDIO_SUFFIXES:
                if entry.is_file():
                    files.append(entry)
                else:
                    problems.append(Problem(path=str(entry), reason="expected a file, found a broken link"))
    except OSError as error:
        problems.append(Problem(path=str(path), reason=f"the folder cannot be read ({error.strerror})"))
    return Folder(path=path, files=tuple(files), folders=tuple(folders))
