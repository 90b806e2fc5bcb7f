"""`vrtool train` with a network that overflows, and `--replay` of the steps that it skipped, as a person runs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from safetensors.torch import load_file

from vrtool.dataset.cache import Cache
from vrtool.model.checkpoint import load_checkpoint, save_checkpoint
from vrtool.training.bad_steps import read_bad_step

Command = Callable[..., CompletedProcess[str]]

RECIPE = """
[model]
architecture = "unet"
n_fft = 256
channels = 1
dropout = 0.1

[training]
num_steps = 8
batch_size = 2
accumulate_batches = 1
crop_frames = 16
warmup_steps = 1
decay_steps = 10
validate_every_steps = 100
checkpoint_every_steps = 100
num_validation_examples = 0
num_loader_workers = 0
"""


@pytest.fixture
def diverged(small_cache: Cache, tmp_path: Path, vrtool: Command) -> tuple[Path, str]:
    """A run that went on from weights so large that the network overflows, and its last words."""
    recipe, run = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(RECIPE, encoding="utf-8")
    arguments = ("train", recipe, "--cache", small_cache.path, "-o", run, "--device", "cpu")
    begun = vrtool(*arguments, "--set", "training.num_steps=1")
    assert begun.returncode == 0, begun.stderr
    checkpoint = load_checkpoint(run / "last.safetensors", with_training_state=True)
    large = {name: tensor.sign() * 3e38 if tensor.ndim > 1 else tensor for name, tensor in checkpoint.weights.items()}
    save_checkpoint(run / "step-00000001.safetensors", replace(checkpoint, weights=large))
    ended = vrtool(*arguments, "--resume")
    assert ended.returncode == 1, ended.stderr
    return run, " ".join(ended.stderr.split())


def replay(*words: object) -> CompletedProcess[str]:
    """Run `vrtool train --replay` in a process of its own."""
    arguments = [sys.executable, "-m", "vrtool", "train", "--device", "cpu", "--replay", *map(str, words)]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


def test_a_run_of_bad_steps_ends_with_a_command_that_shows_them(diverged: tuple[Path, str], tmp_path: Path) -> None:
    run, message = diverged
    file = run / "bad-steps/step-00000002.json"
    assert "step 4: no finite gradients 3 times in a row; lower training.learning_rate" in message
    assert f"--resume from {run}/step-00000001.safetensors" in message
    assert f"vrtool train --replay {file} shows what the first of them was made of" in message
    done = replay(file, "-o", tmp_path / "batches.safetensors")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "step 2, " in text
    assert "batch 1: the same bytes as in the run, its loss was nan" in text
    for example in read_bad_step(file).batches[0].examples:
        assert f"example {example.number} (epoch" in text
        for layer in example.plan.all_layers:
            assert f"{layer.track}, " in text, "its sources are named"
            assert f"frame {layer.offset_frames}" in text
    assert "all finite" in text
    assert f"with the network of {run}/step-00000001.safetensors" in text
    assert "example 2 nan nan" in text
    assert "not finite alone: 2, 3" in text
    assert load_file(tmp_path / "batches.safetensors")["batch-00000001/mixture"].shape == (2, 2, 129, 16)


def test_a_replay_says_where_the_cache_is_not_the_runs_and_where_there_is_no_network(
    diverged: tuple[Path, str], small_cache: Cache, tmp_path: Path, vrtool: Command
) -> None:
    run, _ = diverged
    file = run / "bad-steps/step-00000003.json"
    # Away from the checkpoints, with a cache that has moved.
    (tmp_path / "elsewhere").mkdir()
    alone = shutil.copy(file, tmp_path / "elsewhere")
    shutil.copytree(small_cache.path, tmp_path / "moved")
    output = tmp_path / "batches.safetensors"
    done = vrtool("train", "--replay", alone, "--cache", tmp_path / "moved", "--device", "cpu", "-o", output)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path} has no checkpoint from before step 3" in done.stdout
    for path in (tmp_path / "moved").glob("*/*.h5"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        path.write_bytes(content)
    changed = vrtool("train", "--replay", alone, "--cache", tmp_path / "moved", "--device", "cpu")
    assert changed.returncode == 1, changed.stderr
    assert "batch 2: other bytes than in the run" in changed.stdout
    assert "batch 2 of step 3 came out with other bytes than in the run" in " ".join(changed.stderr.split())
    before = output.read_bytes()
    refused = vrtool("train", "--replay", alone, "--cache", tmp_path / "moved", "-o", output)
    assert (refused.returncode, "name another file" in refused.stderr) == (2, True)
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "training takes RECIPE, --cache and --output; missing: RECIPE, --cache, --output"),
        (("recipe.toml", "--cache", "cache"), "missing: --output"),
        (("--replay", "bad.json", "--resume"), "--resume: --replay shows a step as it was"),
        (("recipe.toml", "--replay", "bad.json"), "RECIPE: --replay shows"),
        (("--replay", "bad.json", "--from", "run"), "--from: --replay shows"),
        (("--replay", "bad.json", "--set", "training.seed=1"), "--set: --replay shows"),
        (("--replay", "bad.json", "--tensorboard"), "--tensorboard: --replay shows"),
        (("--replay", "bad.json"), "bad.json: expected a file of a run's bad-steps, found none"),
    ],
)
def test_impossible_options_are_the_users_mistake(vrtool: Command, words: tuple[str, ...], message: str) -> None:
    done = vrtool("train", *words)
    assert (done.returncode, message in " ".join(done.stderr.split())) == (2, True), done.stderr
