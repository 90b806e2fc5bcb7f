"""Training in real processes that are killed without notice, again and again, against one that is left alone."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vrtool.model.checkpoint import load_checkpoint

RECIPE = """
[model]
architecture = "unet"
n_fft = 256
channels = 1
dropout = 0.1

[training]
num_steps = 120
batch_size = 2
accumulate_batches = 1
crop_frames = 16
warmup_steps = 1
decay_steps = 120
decay = "cosine"
ema_decay = 0.9
validate_every_steps = 14
num_validation_examples = 2
checkpoint_every_steps = 7
keep_checkpoints = 2
num_loader_workers = 0
"""
LAST_STEP = 120


@pytest.fixture
def divided_cache(small_library: Path, tiny_stft: Any, run_prepare: Callable[..., Any], tmp_path: Path) -> Path:
    libraries = {kind: [small_library / kind] for kind in ("instrumentals", "vocals", "pairs")}
    run_prepare(tmp_path / "cache", stft=tiny_stft, validation="0.1", **libraries)
    return tmp_path / "cache"


def newest_step(run: Path) -> int:
    return max((int(path.stem.removeprefix("step-")) for path in run.glob("step-*")), default=0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_killed_again_and_again_ends_with_the_weights_of_an_undisturbed_one(
    divided_cache: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")

    def start(run: Path, *options: str) -> subprocess.Popen[str]:
        arguments = ["train", str(recipe), "--cache", str(divided_cache), "--output", str(run), "--device", "cpu"]
        return subprocess.Popen(
            [sys.executable, "-m", "vrtool", *arguments, *options], stderr=subprocess.PIPE, text=True
        )

    def finish(process: subprocess.Popen[str]) -> None:
        _, messages = process.communicate(timeout=300)
        assert process.returncode == 0, messages

    finish(start(tmp_path / "whole"))
    run, chance = tmp_path / "killed", random.Random(0)
    steps_killed_after = []
    for number in range(3):
        process = start(run, *(("--resume",) if newest_step(run) else ()))
        goal = newest_step(run) + 7 * (1 + number)
        while newest_step(run) < goal:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.002)
        if number == 1:
            # While a checkpoint is being written.
            while not list(run.glob(".*.partial*")):
                assert process.poll() is None, process.communicate()[1]
        else:
            time.sleep(chance.uniform(0.0, 0.2))
        process.kill()
        process.communicate()
        assert process.returncode == -9
        steps_killed_after.append(newest_step(run))
    assert 0 < steps_killed_after[0] < steps_killed_after[1] < steps_killed_after[2] < LAST_STEP
    finish(start(run, "--resume"))
    for name in ("last.safetensors", "best.safetensors"):
        whole, killed = (
            load_checkpoint(folder / name, with_training_state=True) for folder in (tmp_path / "whole", run)
        )
        assert whole.progress == killed.progress
        assert whole.training_state.keys() == killed.training_state.keys()
        assert all(torch.equal(whole.weights[key], killed.weights[key]) for key in whole.weights)
        assert all(torch.equal(whole.training_state[key], killed.training_state[key]) for key in whole.training_state)
    assert not list(run.glob(".*")), "a killed process's half file is still there"
