from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vrtool import atomic
from vrtool.atomic import ABANDONED_SECONDS, atomic_path, new_path, remove_abandoned
from vrtool.errors import InputError
from vrtool.locking import try_lock


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


def test_the_temporary_file_is_there_and_empty_before_anything_is_written(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "stem.wav") as temporary:
        assert temporary.read_bytes() == b""
    assert (tmp_path / "stem.wav").read_bytes() == b""


def test_an_error_without_a_name_gets_the_destinations(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "stem.wav"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert caught.value.filename == str(tmp_path / "stem.wav")


def test_an_error_about_the_temporary_file_names_the_destination_and_others_keep_their_name(tmp_path: Path) -> None:
    def write(named: Callable[[Path], Path]) -> None:
        with atomic_path(tmp_path / "stem.wav") as temporary:
            raise OSError(5, "Input/output error", str(named(temporary)))

    for named, expected in (
        (lambda temporary: temporary, tmp_path / "stem.wav"),
        (lambda _: tmp_path / "song.wav", tmp_path / "song.wav"),
    ):
        with pytest.raises(OSError, match="Input/output error") as caught:
            write(named)
        assert caught.value.filename == str(expected)


def test_a_folder_that_is_not_there_is_an_error_that_names_the_destination(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "no folder" / "stem.wav"):
        pass
    assert caught.value.filename == str(tmp_path / "no folder" / "stem.wav")


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


def _no_second_names(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["second names", "no second names"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has hard links, and one that has none, as FAT."""
    if request.param == "no second names":
        monkeypatch.setattr(os, "link", _no_second_names)


@pytest.mark.usefixtures("file_system")
def test_a_new_file_has_its_name_only_once_it_is_complete(tmp_path: Path) -> None:
    destination = tmp_path / "stem.wav"
    with new_path(destination) as temporary:
        temporary.write_bytes(b"whole")
        assert not destination.exists()
    assert destination.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [destination]


@pytest.mark.usefixtures("file_system")
def test_a_new_file_does_not_replace_one_that_appeared_meanwhile(tmp_path: Path) -> None:
    destination = tmp_path / "stem.wav"

    def write() -> None:
        with new_path(destination) as temporary:
            temporary.write_bytes(b"ours")
            destination.write_bytes(b"theirs")

    with pytest.raises(InputError, match=r"stem\.wav: made by another program in the meantime"):
        write()
    assert destination.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [destination]


def test_of_many_writers_of_one_new_file_one_is_told_that_it_has_written_it(tmp_path: Path) -> None:
    destination = tmp_path / "stem.wav"
    all_are_done = threading.Barrier(8)

    def write(number: int) -> int | None:
        try:
            with new_path(destination) as temporary:
                temporary.write_bytes(b"%d" % number)
                all_are_done.wait()
        except InputError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        (winner,) = (number for number in pool.map(write, range(8)) if number is not None)
    assert destination.read_bytes() == b"%d" % winner


class TestAbandoned:
    def test_what_a_killed_writer_left_is_removed_and_nothing_else(self, tmp_path: Path) -> None:
        program = (
            "import os, pathlib, sys\n"
            "from vrtool.atomic import atomic_path\n"
            "with atomic_path(pathlib.Path(sys.argv[1])) as partial:\n"
            "    partial.write_bytes(b'half')\n"
            "    os._exit(9)\n"
        )
        kept = [tmp_path / "whole.h5", tmp_path / ".hidden", tmp_path / "a.partial-b"]
        for path in kept:
            path.touch()
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "track.h5")], check=False)
        assert len(list(tmp_path.iterdir())) == 4
        remove_abandoned(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted(kept)

    def test_what_somebody_writes_stays(self, tmp_path: Path) -> None:
        with atomic_path(tmp_path / "track.h5") as partial:
            partial.write_bytes(b"half")
            remove_abandoned(tmp_path)
            assert partial.read_bytes() == b"half"
        assert (tmp_path / "track.h5").read_bytes() == b"half"

    def test_a_file_stays_until_the_process_that_writes_it_is_killed(self, tmp_path: Path) -> None:
        program = """
import pathlib, sys, time
from vrtool.atomic import atomic_path
with atomic_path(pathlib.Path(sys.argv[1])) as partial:
    partial.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""
        command = [sys.executable, "-c", program, str(tmp_path / "track.h5")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "writing\n"
                remove_abandoned(tmp_path)
                (partial,) = tmp_path.iterdir()
                assert partial.read_bytes() == b"half"
            finally:
                process.kill()
        assert list(tmp_path.iterdir()) == [partial]
        remove_abandoned(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_finished_file_is_locked_no_more(self, tmp_path: Path) -> None:
        with atomic_path(tmp_path / "track.h5") as partial:
            partial.write_bytes(b"whole")
        with (tmp_path / "track.h5").open("rb+") as file:
            assert try_lock(file.fileno()) is not False

    def test_a_folder_that_is_not_there_has_nothing_to_remove(self, tmp_path: Path) -> None:
        remove_abandoned(tmp_path / "nowhere")

    @pytest.mark.skipif(os.name != "posix", reason="Windows itself keeps open files")
    def test_a_file_that_is_removed_before_its_writer_could_lock_it_is_made_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        removals: list[list[Path]] = []

        def lock_late(descriptor: int) -> bool | None:
            if not removals:
                removals.append(list(tmp_path.iterdir()))
                monkeypatch.setattr(atomic, "try_lock", try_lock)
                remove_abandoned(tmp_path)
                assert list(tmp_path.iterdir()) == []
            return try_lock(descriptor)

        monkeypatch.setattr(atomic, "try_lock", lock_late)
        with atomic_path(tmp_path / "track.h5") as partial:
            partial.write_bytes(b"whole")
            remove_abandoned(tmp_path)
        assert (tmp_path / "track.h5").read_bytes() == b"whole"
        assert len(removals[0]) == 1

    @pytest.mark.skipif(os.name != "posix", reason="Windows itself keeps open files")
    def test_a_file_is_locked_while_it_is_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / ".track.partial-0123abcd.h5"
        path.touch()
        found = []

        def look(path: Path, missing_ok: bool = False) -> None:  # noqa: ARG001
            descriptor = os.open(path, os.O_RDWR)
            found.append(try_lock(descriptor))
            os.close(descriptor)

        monkeypatch.setattr(Path, "unlink", look)
        remove_abandoned(tmp_path)
        assert found == [False]

    @pytest.mark.skipif(os.name != "posix", reason="Windows itself keeps open files")
    def test_where_there_are_no_locks_age_tells(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        old, young = (tmp_path / f".{age}.partial-0123abcd.h5" for age in ("old", "young"))
        for path in (old, young):
            path.touch()
        modified = old.stat().st_mtime - ABANDONED_SECONDS - 60.0
        os.utime(old, (modified, modified))
        monkeypatch.setattr(atomic, "try_lock", lambda _: None)
        remove_abandoned(tmp_path)
        assert list(tmp_path.iterdir()) == [young]
        with atomic_path(tmp_path / "track.h5") as partial:
            partial.write_bytes(b"whole")
        assert (tmp_path / "track.h5").read_bytes() == b"whole"
