"""Match the files of a `mixtures` folder with those of an `instruments` folder by their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from vrtool.dataset.folders import Folder, comparable_name
from vrtool.dataset.track import Problem

MIXTURE_FOLDERS = frozenset({"mixtures"})
INSTRUMENT_FOLDERS = frozenset({"instruments", "instrumentals", "accompaniments"})

# What people add to a file's name to tell a mixture from its instrumental: "song_mix", "song (Off Vocal)". A
# separator or a bracket has to stand before it, so that a "remix" stays one.
SUFFIX = re.compile(
    r"(?:[\s_.-]+|(?=[(\[]))[(\[]?"
    r"(?:mix|mixture|mixed|original|full|inst|instr|instrumental|accompaniment|karaoke|off[\s_-]?vocals?|no[\s_-]?vocals?)"
    r"[)\]]?$"
)


def match_by_name(mixtures: Folder, instruments: Folder) -> tuple[list[tuple[Path, Path]], list[Problem]]:
    """Return (mixture, instrumental) pairs in the order of the mixtures, and every file without a partner.

    Names are compared with their path below the two folders, without suffix, case and Unicode's forms apart.
    What finds no partner so is compared again without endings like "_mix", and matched if there is no choice.
    """
    left = {path: _name(path, mixtures) for path in mixtures.all_files()}
    right = {path: _name(path, instruments) for path in instruments.all_files()}
    problems = [*_take_doubles(left), *_take_doubles(right)]
    pairs = _take_matches(left, right, lambda name: name) + _take_matches(left, right, _without_suffix)
    problems += [_alone(path, "instrumental", instruments) for path in left]
    problems += [_alone(path, "mixture", mixtures) for path in right]
    order = {path: position for position, path in enumerate(mixtures.all_files())}
    return sorted(pairs, key=lambda pair: order[pair[0]]), problems


def _name(path: Path, folder: Folder) -> str:
    return comparable_name(path.relative_to(folder.path).with_suffix("").as_posix())


def _without_suffix(name: str) -> str:
    return SUFFIX.sub("", name)


def _take_doubles(names: dict[Path, str]) -> list[Problem]:
    """Remove files whose names differ in nothing but the suffix, and name them."""
    problems = []
    for paths in _grouped(names, lambda name: name).values():
        if len(paths) > 1:
            choice = " and ".join(path.name for path in paths)
            reason = f"expected one file of this name, found {choice}; keep one of them"
            problems += [Problem(path=str(path), reason=reason) for path in paths]
            for path in paths:
                del names[path]
    return problems


def _take_matches(left: dict[Path, str], right: dict[Path, str], key: Callable[[str], str]) -> list[tuple[Path, Path]]:
    """Remove from both sides, and return, the files whose key exactly one file of each side has."""
    partners = _grouped(right, key)
    pairs = [
        (paths[0], partners[name][0])
        for name, paths in _grouped(left, key).items()
        if len(paths) == 1 and len(partners.get(name, ())) == 1
    ]
    for mixture, instrumental in pairs:
        del left[mixture], right[instrumental]
    return pairs


def _grouped(names: dict[Path, str], key: Callable[[str], str]) -> dict[str, list[Path]]:
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    for path, name in names.items():
        groups[key(name)].append(path)
    return dict(groups)


def _alone(path: Path, partner: str, folder: Folder) -> Problem:
    return Problem(
        path=str(path),
        reason=f"expected one {partner} of the same name in {folder.path}, found none or more than one that fits",
    )
