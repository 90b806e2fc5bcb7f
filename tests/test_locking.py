from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vrtool import locking
from vrtool.locking import exclusive_lock, try_lock

Start = Callable[[str], "subprocess.Popen[str]"]
HOLD = "with exclusive_lock(path):\n    print('held', flush=True)\n    time.sleep(60)\n"
PASS_THROUGH = "print('begun', flush=True)\nwith exclusive_lock(path):\n    print('got it', flush=True)\n"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(code)` runs code in a process of its own, with `path`, the lock's file, and ends it with the test."""
    processes: list[subprocess.Popen[str]] = []
    prelude = f"""
import time
from pathlib import Path
from vrtool.locking import exclusive_lock
path = Path({str(tmp_path / "lock")!r})
"""

    def run(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", prelude + code], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() in ("held\n", "begun\n")
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def is_free(path: Path) -> bool | None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


class TestBetweenProcesses:
    def test_a_lock_is_held_until_its_process_is_killed(self, tmp_path: Path, start: Start) -> None:
        holder = start(HOLD)
        assert is_free(tmp_path / "lock") is False
        holder.kill()
        holder.wait()
        assert is_free(tmp_path / "lock") is True

    def test_who_waits_goes_on_when_the_holder_is_killed_and_not_before(self, start: Start) -> None:
        holder = start(HOLD)
        waiting = start(PASS_THROUGH)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=5 * locking.RETRY_SECONDS)
        holder.kill()
        assert waiting.communicate(timeout=30)[0] == "got it\n"
        assert waiting.returncode == 0

    @pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
    def test_a_stopped_process_keeps_its_lock(self, tmp_path: Path, start: Start) -> None:
        holder = start(HOLD)
        holder.send_signal(signal.SIGSTOP)
        assert is_free(tmp_path / "lock") is False


class TestWithinAProcess:
    def test_it_is_free_after_the_block_and_its_file_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "lock"
        for _ in range(2):
            with exclusive_lock(path):
                assert is_free(path) is False
            assert is_free(path) is True

    def test_it_is_free_after_a_block_that_fails(self, tmp_path: Path) -> None:
        def fail() -> None:
            with exclusive_lock(tmp_path / "lock"):
                raise RuntimeError("the disk broke")

        with pytest.raises(RuntimeError, match="the disk broke"):
            fail()
        assert is_free(tmp_path / "lock") is True

    def test_threads_take_turns(self, tmp_path: Path) -> None:
        seen: list[str] = []

        def work() -> None:
            with exclusive_lock(tmp_path / "lock"):
                seen.append("begin")
                time.sleep(0.02)
                seen.append("end")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == ["begin", "end"] * 4

    def test_what_the_file_holds_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "lock").write_text("notes")
        with exclusive_lock(tmp_path / "lock"):
            pass
        assert (tmp_path / "lock").read_text() == "notes"


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK, errno.EINVAL])
def test_where_there_are_no_locks_the_block_runs_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(locking, "_lock", refuse)
    with exclusive_lock(tmp_path / "lock"), exclusive_lock(tmp_path / "lock"):
        assert is_free(tmp_path / "lock") is None


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), exclusive_lock(tmp_path / "no folder" / "lock"):
        pass
