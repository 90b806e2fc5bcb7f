"""Training by two real processes that torchrun starts, against one process, and with one of them killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

RECIPE = """
[model]
architecture = "unet"
n_fft = 256
channels = 1
dropout = 0.1

[training]
num_steps = 40
batch_size = 2
accumulate_batches = 3
crop_frames = 16
learning_rate = 1e-3
warmup_steps = 1
decay_steps = 40
ema_decay = 0.9
validate_every_steps = 10
num_validation_examples = 5
checkpoint_every_steps = 5
num_loader_workers = 1
"""
"""Three passes a step, which two processes cannot share evenly, and validations of three batches."""

Start = Callable[..., subprocess.Popen[str]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def divided_cache(
    small_library: Path, tiny_stft: Any, run_prepare: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    cache = tmp_path_factory.mktemp("together") / "cache"
    libraries = {kind: [small_library / kind] for kind in ("instrumentals", "vocals", "pairs")}
    run_prepare(cache, stft=tiny_stft, validation="0.1", **libraries)
    return cache


@pytest.fixture(scope="module")
def start(divided_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """`start(run, processes, *options)` starts a training; what still runs at the end is killed."""
    recipe = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    started: list[subprocess.Popen[str]] = []

    def start(run: Path, processes: int, *options: str) -> subprocess.Popen[str]:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--max-restarts=1"]
        arguments = ["train", str(recipe), "--cache", str(divided_cache), "--output", str(run), "--device", "cpu"]
        words = [*(launch if processes > 1 else ()), "-m", "vrtool", *arguments, *options]
        # Its words in a file: a pipe nobody reads would be full one day.
        with run.with_suffix(".txt").open("w", encoding="utf-8") as messages:
            process = subprocess.Popen([sys.executable, *words], stdout=messages, stderr=messages, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()


@pytest.fixture(scope="module")
def alone(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    finish(start(run, 1), run)
    return run


def finish(process: subprocess.Popen[str], run: Path, returncode: int = 0) -> str:
    found = process.wait(timeout=300)
    messages = run.with_suffix(".txt").read_text(encoding="utf-8")
    assert found == returncode, messages
    return messages


def metrics(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def assert_same_curve(run: Path, other: Path) -> None:
    """Hold two runs' validations against each other."""
    ours, theirs = metrics(run, "validation"), metrics(other, "validation")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [10, 20, 30, 40]
    for line, beside in zip(ours, theirs, strict=True):
        assert line["loss"] == pytest.approx(beside["loss"], rel=1e-5)
        assert line["vocals_nsdr_db"] == pytest.approx(beside["vocals_nsdr_db"], abs=1e-3)
        assert [song["name"] for song in line["songs"]] == [song["name"] for song in beside["songs"]]


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that torchrun has started, by rising number."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    fields = [line.split(maxsplit=2) for line in listing.splitlines()]
    return sorted(int(pid) for pid, parent, words in fields if int(parent) == process.pid and "-m vrtool" in words)


def wait_for_a_checkpoint(run: Path, process: subprocess.Popen[str]) -> None:
    while not list(run.glob("step-*")):
        assert process.poll() is None, run.with_suffix(".txt").read_text(encoding="utf-8")
        time.sleep(0.002)


def test_two_processes_learn_what_one_does_with_the_same_loss_curve(start: Start, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    messages = finish(start(run, 2), run)
    assert messages.count("device cpu") == messages.count(f"{run}: trained to step 40") == 1
    assert [line["processes"] for line in metrics(run, "session")] == [2]
    assert_same_curve(run, alone)
    training, beside = metrics(run, "training"), metrics(alone, "training")
    assert [line["step"] for line in training] == [20, 40]
    for line, other in zip(training, beside, strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.parametrize("rank", [0, 1])
def test_after_a_worker_is_killed_the_others_go_on_with_a_new_one_from_the_last_checkpoint(
    start: Start, alone: Path, tmp_path: Path, rank: int
) -> None:
    run = tmp_path / "run"
    process = start(run, 2)
    wait_for_a_checkpoint(run, process)
    os.kill(workers_of(process)[rank], signal.SIGKILL)
    finish(process, run)
    first, second = metrics(run, "session")
    assert first["step"] == 0
    assert second["step"] >= 5
    assert_same_curve(run, alone)


def test_a_terminated_run_keeps_a_checkpoint_and_goes_on_with_another_number_of_processes(
    start: Start, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(run, 2, "--auto-resume")
    wait_for_a_checkpoint(run, process)
    process.terminate()
    assert "stopped after step" in finish(process, run, returncode=1)
    finish(start(run, 1, "--auto-resume"), run)
    assert [line["processes"] for line in metrics(run, "session")] == [2, 1]
    assert_same_curve(run, alone)


def test_a_run_that_is_there_is_refused_once_and_not_touched_by_processes_that_are_started_again(
    start: Start, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(alone, run)
    before = (run / "metrics.jsonl").read_bytes()
    messages = finish(start(run, 2, "--set", "training.num_steps=50"), run, returncode=1)
    assert messages.count("holds a run already") == 1
    assert (run / "metrics.jsonl").read_bytes() == before


def test_more_processes_than_passes_are_refused_in_a_sentence(start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    messages = finish(start(run, 2, "--set", "training.accumulate_batches=1"), run, returncode=1)
    assert "accumulate_batches = 1 passes of a step cannot be shared by 2 processes" in messages
    assert not run.exists()
