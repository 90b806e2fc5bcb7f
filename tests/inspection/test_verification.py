from __future__ import annotations

import shutil
from pathlib import Path

from vrtool.dataset.cache import Cache, open_cache
from vrtool.inspection import verify_files


def test_a_whole_cache_has_no_damage_and_progress_counts_every_file(small_cache: Cache) -> None:
    seen: list[tuple[int, int]] = []
    assert verify_files(small_cache, lambda done, total: seen.append((done, total))) == ()
    assert seen == [(number, 8) for number in range(1, 9)]


def test_every_damaged_file_is_named_with_the_remedy(small_cache: Cache, tmp_path: Path) -> None:
    shutil.copytree(small_cache.path, tmp_path / "cache")
    cache = open_cache(tmp_path / "cache")
    flipped, truncated = cache.tracks[1], cache.tracks[4]
    stored = flipped.header.storage[flipped.header.main_role]
    content = bytearray(flipped.path.read_bytes())
    content[stored.offset_bytes + 1000] ^= 0b100
    flipped.path.write_bytes(content)
    with truncated.path.open("rb+") as file:
        file.truncate(truncated.header.end_bytes - 1)
    damaged = verify_files(cache)
    assert [problem.path for problem in damaged] == [str(flipped.path), str(truncated.path)]
    role = flipped.header.main_role
    remedy = "; delete it and run vrtool prepare again"
    assert damaged[0].reason == f"the bytes of its {role} have changed since they were written{remedy}"
    assert damaged[1].reason == f"it is no track of a vrtool cache, or not a whole one{remedy}"
