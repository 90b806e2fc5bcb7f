from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio import spool as spool_module
from vrtool.audio.formats import FloatArray
from vrtool.audio.spool import MEMORY_BYTES, open_spool

BLOCK_BYTES = 40_000
"""The size of what `noise` makes."""


def noise(seed: int, num_channels: int = 2) -> FloatArray:
    samples = np.random.default_rng(seed).standard_normal((num_channels, BLOCK_BYTES // 4 // num_channels))
    return samples.astype(np.float32)


@pytest.fixture(params=[1, 60_000, MEMORY_BYTES], ids=["on disk", "moved to disk", "in memory"])
def memory_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """What stays in memory; of two blocks none, the first one or both."""
    limit: int = request.param
    monkeypatch.setattr(spool_module, "MEMORY_BYTES", limit)
    return limit


@pytest.mark.usefixtures("memory_bytes")
@pytest.mark.parametrize("num_channels", [1, 2])
def test_any_stretch_of_what_was_appended_is_read_back(tmp_path: Path, num_channels: int) -> None:
    samples = np.concatenate([noise(0, num_channels), noise(1, num_channels)], axis=1)
    num_samples = samples.shape[1]
    with open_spool(tmp_path, num_channels) as spool:
        for block in np.array_split(samples, 2, axis=1):
            spool.append(block)
        assert (spool.num_channels, spool.num_samples) == (num_channels, num_samples)
        for start, count in ((0, num_samples), (num_samples // 2 - 5, 10), (num_samples - 1, 1), (0, 1), (7, 0)):
            found = spool.read(start, count)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, samples[:, start : start + count])


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), max_size=8), num_channels=st.integers(1, 2), data=st.data())
def test_blocks_of_any_lengths_are_joined(lengths: list[int], num_channels: int, data: st.DataObject) -> None:
    samples = noise(0, num_channels)[:, : sum(lengths)]
    with tempfile.TemporaryDirectory() as folder, open_spool(Path(folder), num_channels) as spool:
        for block in np.split(samples, np.cumsum(lengths), axis=1):
            spool.append(block)
        start = data.draw(st.integers(0, samples.shape[1]))
        count = data.draw(st.integers(0, samples.shape[1] - start))
        np.testing.assert_array_equal(spool.read(start, count), samples[:, start : start + count])


@pytest.mark.usefixtures("memory_bytes")
def test_the_folder_is_made_and_nothing_stays_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "cache/vocal"
    with open_spool(folder, 2) as spool:
        spool.append(noise(0))
        spool.append(noise(1))
        assert folder.is_dir()
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows shows open files until they are closed")
@pytest.mark.parametrize("memory_bytes", [1], indirect=True)
def test_a_spool_on_disk_has_no_name_that_a_killed_process_could_leave(tmp_path: Path, memory_bytes: int) -> None:
    with open_spool(tmp_path, 2) as spool:
        spool.append(noise(0))
        assert memory_bytes < BLOCK_BYTES
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("memory_bytes", [1, BLOCK_BYTES + 1, 2 * BLOCK_BYTES - 1])
def test_a_block_that_finds_room_for_a_part_of_it_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_file_size: Callable[[int], None], memory_bytes: int
) -> None:
    monkeypatch.setattr(spool_module, "MEMORY_BYTES", memory_bytes)
    limit_file_size(60_000)  # the first block has room, of the second one only a part

    def write_and_read() -> FloatArray:
        with open_spool(tmp_path, 2) as spool:
            spool.append(noise(0))
            spool.append(noise(1))
            return spool.read(0, spool.num_samples)

    with pytest.raises(OSError, match="File too large") as caught:
        write_and_read()
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_names_its_file_keeps_it(tmp_path: Path) -> None:
    def fail() -> None:
        with open_spool(tmp_path, 2):
            raise OSError(errno.EIO, "Input/output error", "song.wav")

    with pytest.raises(OSError, match=r"song\.wav"):
        fail()
