"""Batches as JSON, in the format of the system that vrtool descends from: what to separate, what to copy, where to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vrtool.errors import InputError

KEYS = ("output", "convert", "copy")
EXAMPLE = '{"output": "stems", "convert": ["song.mp3"], "copy": ["interlude.mp3"]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Songs and folders to separate into a folder, and those to copy there as they are."""

    output: Path
    convert: tuple[Path, ...]
    copy: tuple[Path, ...]


def read_batch(path: Path) -> Batch:
    """Return the batch that a JSON file holds; relative paths in it are taken from its own folder.

    Raises InputError if it is no such file: not JSON, with other keys or types, or with nothing to do.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a batch such as {EXAMPLE}, found no JSON ({error})") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected an object such as {EXAMPLE}, found {type(document).__name__}")
    if unknown := sorted(set(document) - set(KEYS)):
        raise InputError(f"{path}: unknown key {', '.join(unknown)}; a batch has {', '.join(KEYS)} and no others")
    output = document.get("output")
    if not isinstance(output, str) or not output:
        raise InputError(f'{path}: expected "output" to name a folder, found {json.dumps(output)}')
    lists = {key: _paths(path, key, document.get(key, [])) for key in ("convert", "copy")}
    if not lists["convert"] and not lists["copy"]:
        raise InputError(f'{path}: nothing to do; name songs in "convert" or "copy"')
    return Batch(output=path.parent / output, **lists)


def _paths(path: Path, key: str, names: object) -> tuple[Path, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f'{path}: expected "{key}" to be a list of paths, found {json.dumps(names)[:60]}')
    return tuple(path.parent / name for name in names)
