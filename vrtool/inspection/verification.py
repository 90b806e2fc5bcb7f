"""Reads every byte of a cache again and compares it with what was written."""

from __future__ import annotations

from collections.abc import Callable

from vrtool.dataset.cache import Cache
from vrtool.dataset.track import Problem


def verify_files(cache: Cache, on_progress: Callable[[int, int], None] | None = None) -> tuple[Problem, ...]:
    """Return the tracks whose files are damaged; `on_progress` is told how many are done, and of how many."""
    problems = []
    for done, track in enumerate(cache.tracks, start=1):
        damage = track.verify()
        if damage is not None:
            problems.append(Problem(path=str(track.path), reason=f"{damage}; delete it and run vrtool prepare again"))
        if on_progress is not None:
            on_progress(done, len(cache.tracks))
    return tuple(problems)
