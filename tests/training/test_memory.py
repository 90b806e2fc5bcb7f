"""Memory that runs out while a run goes on, and processes that are killed for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vrtool.errors import JobError
from vrtool.model import ModelConfig, build_model
from vrtool.training.config import TrainingConfig
from vrtool.training.memory import find_place, memory_watched
from vrtool.training.run_folder import RunFolder
from vrtool.training.setup import TrainingSetup
from vrtool.training.watcher import StepReport, Watcher

MakeSetup = Callable[..., TrainingSetup]
TrainRun = Callable[..., int]

MORE_THAN_ANY = 10**13
"""Examples of 33 kB: beyond what 64 bits can address, so that no system promises it."""
TRANSFORMER = ModelConfig(n_fft=256, channels=2, num_bands=2, feedforward_dim=16, num_encoders=1, num_decoders=1)
UNET = ModelConfig(architecture="unet", n_fft=256, channels=1)


def told(config: TrainingConfig, model: ModelConfig, device: str, error: Exception, run: Path) -> str:
    """Return what a run is told that meets an error in its 12th step."""
    folder = RunFolder(path=run)
    with (
        pytest.raises(JobError) as raised,
        memory_watched(config, build_model(model), torch.device(device), folder, step=lambda: 12),
    ):
        raise error
    assert raised.value.__cause__ is error
    return str(raised.value)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_that_no_machine_has_room_for_are_told_with_what_to_lower(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, num_workers: int
) -> None:
    setup = make_setup(batch_size=MORE_THAN_ANY, num_loader_workers=num_workers)
    with pytest.raises(JobError) as raised:
        train_run(setup, tmp_path)
    workers = "training.num_loader_workers or " * num_workers
    assert str(raised.value).startswith(
        "step 1: the memory of this machine ran out with batches of 10,000,000,000,000 crops of 16 frames; lower "
        f"{workers}training.batch_size (and raise accumulate_batches, so that a step sees as many examples) or "
        "training.crop_frames"
    )
    assert str(raised.value).endswith("; there is no checkpoint yet to go on from")


def test_memory_that_runs_out_later_leaves_a_run_to_resume(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path
) -> None:
    train_run(make_setup(num_steps=2), tmp_path)
    with pytest.raises(JobError, match=rf"^step 3: .*; --resume goes on from {tmp_path}/step-00000002\.safetensors$"):
        train_run(make_setup(batch_size=MORE_THAN_ANY), tmp_path, resume=True)
    assert train_run(make_setup(), tmp_path, resume=True) == 6


# The loader raises in a signal's handler, at any moment: be it between opening a file to sync it and its `with`.
@pytest.mark.filterwarnings(r"ignore:Exception ignored in.*\.partial:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_worker_is_told_with_what_to_lower(make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path) -> None:
    others = multiprocessing.active_children()  # of other tests in this process

    def kill_a_worker(report: StepReport) -> None:
        if report.step == 3:
            (worker,) = set(multiprocessing.active_children()) - set(others)
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)

    setup = make_setup(num_steps=500, num_loader_workers=1, checkpoint_every_steps=1)
    with pytest.raises(JobError) as raised:
        train_run(setup, tmp_path, watcher=Watcher(on_step=kill_a_worker))
    message = str(raised.value)
    assert "a process that makes batches was killed, as systems do when memory runs out, with batches of 2" in message
    assert "lower training.num_loader_workers or training.batch_size" in message
    assert "; --resume goes on from " in message
    reached = RunFolder(path=tmp_path).newest_checkpoint
    assert reached is not None
    step = int(reached.stem.removeprefix("step-"))
    assert train_run(make_setup(num_steps=step + 1), tmp_path, resume=True) == step + 1


def test_the_memory_of_a_device_is_told_with_what_the_run_can_still_set(tmp_path: Path) -> None:
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    config = TrainingConfig(batch_size=8)
    message = told(config, TRANSFORMER, "cpu", full, tmp_path)
    assert message.startswith(
        "step 12: the memory of cpu ran out with batches of 8 crops of 1,024 frames; lower training.batch_size (and "
        "raise accumulate_batches, so that a step sees as many examples) or training.crop_frames, or set "
        "training.recompute_activations = true"
    )
    recomputing = replace(config, recompute_activations=True)
    assert "recompute" not in told(recomputing, TRANSFORMER, "cpu", full, tmp_path)
    assert "recompute" not in told(replace(config, compile=True), TRANSFORMER, "cpu", full, tmp_path)
    assert "recompute" not in told(config, UNET, "cpu", full, tmp_path)
    assert "lower training.crop_frames and crop_stages" in told(
        replace(config, batch_size=1, crop_stages=((1, 2048),)), UNET, "cpu", full, tmp_path
    )


@pytest.mark.parametrize(("has", "precision", "is_told"), [(True, "float32", True), (True, "bfloat16", False),
                                                           (False, "float32", False)])  # fmt: skip
def test_bfloat16_is_told_where_it_is_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: bool, precision: str, is_told: bool
) -> None:
    monkeypatch.setattr("vrtool.training.memory.has_bfloat16", lambda _: has)
    config = TrainingConfig(precision=precision)  # type: ignore[arg-type]
    message = told(config, UNET, "cpu", MemoryError(), tmp_path)
    assert ('set training.precision = "bfloat16"' in message) == is_told


def test_a_network_of_one_length_that_leaves_nothing_to_lower_is_to_be_smaller(tmp_path: Path) -> None:
    fixed = replace(TRANSFORMER, position="ancestor", crop_frames=1024)
    config = TrainingConfig(batch_size=1, recompute_activations=True, precision="bfloat16")
    full = torch.OutOfMemoryError("full")
    assert "frames; take a smaller network in [model]; there is" in told(config, fixed, "cpu", full, tmp_path)


def test_memory_is_told_apart_by_the_words_that_torch_and_the_system_have_for_it() -> None:
    assert find_place(RuntimeError("MPS backend out of memory (MPS allocated: 18.13 GB)")) == "device"
    assert find_place(RuntimeError("CUDA error: out of memory")) == "device"
    assert find_place(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")) == "device"
    assert find_place(RuntimeError("unable to mmap 8 bytes from file </t>: Cannot allocate memory (12)")) == "machine"
    assert find_place(RuntimeError("unable to allocate shared memory(shm) for file </t>: No space")) == "shared"
    assert find_place(RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. ...")) == "shared"
    assert find_place(RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly")) == "worker"
    with pytest.raises(MemoryError) as raised:
        np.empty(1 << 57)
    assert find_place(raised.value) == "machine"
    with pytest.raises(RuntimeError) as failed:
        torch.empty(1 << 57)
    assert find_place(failed.value) == "machine"
    assert find_place(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_other_errors_pass(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    with (
        pytest.raises(RuntimeError, match="shapes"),
        memory_watched(TrainingConfig(), build_model(UNET), torch.device("cpu"), folder, step=lambda: 1),
    ):
        raise RuntimeError("shapes cannot be multiplied")
