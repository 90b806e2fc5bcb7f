from __future__ import annotations

import os
from pathlib import Path

import pytest

from vrtool.atomic import atomic_path


def test_a_file_has_its_name_only_once_it_is_complete(tmp_path: Path) -> None:
    destination = tmp_path / "stem.wav"
    with atomic_path(destination) as temporary:
        temporary.write_bytes(b"whole")
        assert not destination.exists()
    assert destination.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [destination]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    destination = tmp_path / "stem.wav"
    destination.write_bytes(b"old and longer")
    with atomic_path(destination) as temporary:
        temporary.write_bytes(b"new")
        assert destination.read_bytes() == b"old and longer"
    assert destination.read_bytes() == b"new"


@pytest.mark.parametrize("interruption", [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, interruption: BaseException) -> None:
    destination = tmp_path / "stem.wav"
    destination.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(destination) as temporary:
            temporary.write_bytes(b"ha")
            raise interruption

    with pytest.raises(type(interruption)) as caught:
        write_half()
    assert caught.value is interruption
    assert destination.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [destination]


def test_the_temporary_name_is_hidden_marked_and_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "stem.wav") as temporary:
        temporary.touch()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert ".partial" in temporary.name
        assert temporary.suffix == ".wav"


def test_two_writers_of_one_file_do_not_share_a_temporary_name(tmp_path: Path) -> None:
    destination = tmp_path / "stem.wav"
    with atomic_path(destination) as first, atomic_path(destination) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert destination.read_bytes() == b"first"  # the outer block ends last


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    destination = tmp_path / ("n" * 251 + ".wav")
    with atomic_path(destination) as temporary:
        temporary.touch()
    assert destination.exists()


@pytest.mark.skipif(os.name != "posix", reason="folders are synced on posix only")
def test_the_file_is_synced_before_its_renaming_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = tmp_path / "stem.wav"
    had_its_name = []
    monkeypatch.setattr(os, "fsync", lambda _: had_its_name.append(destination.exists()))
    with atomic_path(destination) as temporary:
        temporary.touch()
    assert had_its_name == [False, True]


def test_a_failing_sync_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    def write() -> None:
        with atomic_path(tmp_path / "stem.wav") as temporary:
            temporary.touch()

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write()
    assert list(tmp_path.iterdir()) == []
