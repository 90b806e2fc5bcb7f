"""`vrtool prepare`, in this process and in processes of its own, with an STFT that fits the tests' short audio."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from vrtool.audio.waveform import FloatArray

SMALL = ("--sample-rate", "8000", "--n-fft", "256", "--hop-length", "128", "--minimum-seconds", "0.5")


@pytest.fixture
def prepare(vrtool: Callable[..., CompletedProcess[str]]) -> Callable[..., CompletedProcess[str]]:
    """Runs `vrtool prepare` as the fixture `vrtool` does; options given count more than those for short audio."""
    return lambda *words: vrtool("prepare", *SMALL, *words)


@pytest.fixture
def start_prepare() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `vrtool prepare` in a process group of its own, with worker processes."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "vrtool", "prepare", *SMALL, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def vocals(tmp_path: Path, make_signal: Callable[..., FloatArray], write_sound: Callable[..., Path]) -> Path:
    """A library of three vocal tracks."""
    for number in range(3):
        write_sound(tmp_path / f"vocals/v{number}.wav", make_signal(number, seconds=1.0))
    return tmp_path / "vocals"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the cache goes."""
    return tmp_path / "cache"
