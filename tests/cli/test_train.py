"""`vrtool train` as a person runs it: in a process of its own, with signals and exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vrtool.dataset.cache import Cache

RECIPE = """
[model]
n_fft = 256
channels = 2
num_bands = 2
feedforward_dim = 16
num_encoders = 1
num_decoders = 1

[training]
num_steps = 4
batch_size = 2
accumulate_batches = 1
crop_frames = 16
warmup_steps = 1
decay_steps = 3
validate_every_steps = 2
checkpoint_every_steps = 2
num_validation_examples = 0
num_loader_workers = 0
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def command(recipe: Path, cache: Cache, run: Path, *options: str) -> list[str]:
    arguments = ["train", str(recipe), "--cache", str(cache.path), "--output", str(run), "--device", "cpu", *options]
    return [sys.executable, "-m", "vrtool", *arguments]


def train(recipe: Path, cache: Cache, run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(recipe, cache, run, *options), capture_output=True, text=True, check=False)


def logged_steps(run: Path) -> list[int]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_a_run_ends_with_checkpoints_metrics_and_its_recipe(recipe: Path, small_cache: Cache, tmp_path: Path) -> None:
    done = train(recipe, small_cache, tmp_path / "run", "--set", "training.num_steps=3")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "trained to step 3" in done.stdout
    assert "step 3/3" in done.stderr
    names = {path.name for path in (tmp_path / "run").iterdir()}
    checkpoints = {"step-00000002.safetensors", "step-00000003.safetensors", "last.safetensors", "best.safetensors"}
    assert names == {"recipe.toml", "metrics.jsonl", "report.html"} | checkpoints
    assert "num_steps = 3" in (tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8")
    assert logged_steps(tmp_path / "run")[-1] == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_leaves_a_checkpoint_from_which_resume_goes_on(recipe: Path, small_cache: Cache, tmp_path: Path) -> None:
    run, many = tmp_path / "run", ("--set", "training.num_steps=100000")
    process = subprocess.Popen(command(recipe, small_cache, run, *many), stderr=subprocess.PIPE, text=True)
    while not (run / "last.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in messages
    assert "--resume" in messages
    assert (run / "report.html").exists()
    stopped_at = int(messages.split("stopped after step ")[1].split()[0])
    done = train(recipe, small_cache, run, "--resume", "--set", f"training.num_steps={stopped_at + 1}")
    assert (done.returncode, f"trained to step {stopped_at + 1}" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "training.num_stepz=3"), ["[training] has no key 'num_stepz'", "did you mean 'num_steps'"]),
        (("--set", "training.num_steps=many"), ["[training] num_steps must be a whole number", "'many'"]),
        (("--set", "optimizer.name=adam"), ["unknown section [optimizer]"]),
        (("--set", "num_steps=3"), ["expected section.key=value"]),
        (("--set", "model.num_bands=3"), ["num_bands"]),
        (("--set", "model.n_fft=512"), ["n_fft 256, the recipe says 512"]),
        (("--set", "stft.hop_length=64", "--set", "stft.n_fft=256"), ["sample_rate"]),
        (("--resume",), ["nothing to resume"]),
        (("--resume", "--from", "elsewhere"), ["--resume goes on", "--from begins a new run"]),
        (("--from", "elsewhere"), ["elsewhere does not exist"]),
        (("--set", 'training.freeze=["encoder.*"]'), ["freeze 'encoder.*' matches none"]),
        (("--device", "cuda:7"), ["cuda:7"]),
    ],
)
def test_what_is_asked_for_wrongly_is_told_in_a_sentence(
    options: tuple[str, ...], words: list[str], recipe: Path, small_cache: Cache, tmp_path: Path
) -> None:
    done = train(recipe, small_cache, tmp_path / "run", *options)
    message = " ".join(done.stderr.split())
    assert done.returncode == 2, message
    assert all(word in message for word in words), message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


def test_a_missing_cache_and_a_missing_recipe_are_named(recipe: Path, small_cache: Cache, tmp_path: Path) -> None:
    no_recipe = train(tmp_path / "none.toml", small_cache, tmp_path / "run")
    assert (no_recipe.returncode, "none.toml" in no_recipe.stderr) == (2, True)
    arguments = ["train", str(recipe), "--cache", str(tmp_path / "no cache"), "--output", str(tmp_path / "run")]
    no_cache = subprocess.run([sys.executable, "-m", "vrtool", *arguments], capture_output=True, text=True, check=False)
    assert (no_cache.returncode, "make one with vrtool prepare" in " ".join(no_cache.stderr.split())) == (2, True)


def test_a_batch_too_large_for_the_machine_is_told_with_what_to_lower(
    recipe: Path, small_cache: Cache, tmp_path: Path
) -> None:
    done = train(recipe, small_cache, tmp_path / "run", "--set", "training.batch_size=10000000000000")
    message = " ".join(done.stderr.split())
    assert (done.returncode, "Traceback" in message) == (1, False), message
    assert "error: step 1: the memory of this machine ran out with batches of 10,000,000,000,000 crops" in message
    assert "lower training.batch_size (and raise accumulate_batches, so that" in message
    assert "or set training.recompute_activations = true" in message


def test_a_report_that_cannot_be_written_is_said_and_fails_no_run(
    recipe: Path,
    small_cache: Cache,
    tmp_path: Path,
    vrtool: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("vrtool.watching.report.collect_record", refuse)
    run = tmp_path / "run"
    done = vrtool("train", recipe, "--cache", small_cache.path, "-o", run, "--device", "cpu")
    message = " ".join(done.stderr.split())
    assert (done.returncode, "trained to step 4" in done.stdout) == (0, True), done.stderr
    assert "report.html could not be written (no space left); try again with vrtool report" in message
    assert (run / "last.safetensors").exists()
    assert not (run / "report.html").exists()


def test_tensorboard_that_is_not_installed_is_told_before_anything_is_made(
    recipe: Path,
    small_cache: Cache,
    tmp_path: Path,
    vrtool: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    options = ("--cache", small_cache.path, "-o", tmp_path / "run", "--device", "cpu", "--tensorboard")
    done = vrtool("train", recipe, *options)
    assert (done.returncode, "vrtool[tensorboard]" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "run").exists()
