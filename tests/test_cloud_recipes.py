import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed.run
import typer.main

from vrtool.cli import app
from vrtool.recipe import load_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
CLOUD = RECIPES / "cloud"
KEEP = [sys.executable, str(CLOUD / "keep_in_bucket.py"), "--run", "run", "--bucket", "bucket"]
FILES = ["skypilot.yaml", "kubernetes.yaml", "slurm.sh"]
NUMBERS_OF_GPUS = {
    "skypilot.yaml": [r"^num_nodes: (\d+)", r"accelerators: \w+:(\d+)"],
    "kubernetes.yaml": [r"maxReplicas: (\d+)", r'nvidia.com/gpu: "(\d+)"'],
    "slurm.sh": [r"--nodes=(\d+)", r"--gres=gpu:(\d+)"],
}


def torchrun_words(name: str) -> list[str]:
    """Return the arguments of the one torchrun of a file, its settings put in."""
    text = (CLOUD / name).read_text(encoding="utf-8")
    listed = re.search(r"command: \[torchrun,(.*?)\]", text, re.DOTALL)
    if listed is not None:
        return [word.strip() for word in listed[1].split(",")]
    (command,) = re.findall(r"^[^#\n]*\btorchrun (-.*)$", text.replace("\\\n", " "), re.MULTILINE)
    settings = dict(re.findall(r"^ *(?:export )?(RECIPE|PASSES)(?:=|: )(\S+)", text, re.MULTILINE))
    return shlex.split(re.sub(r"\$(RECIPE|PASSES)\b", lambda name: settings[name[1]], command))


def train_arguments(name: str) -> list[str]:
    """Return what a file gives to `vrtool train`, after torchrun has read its own part."""
    parsed = torch.distributed.run.get_args_parser().parse_args(torchrun_words(name))
    assert (parsed.module, parsed.training_script) == (True, "vrtool")
    words: list[str] = parsed.training_script_args
    assert words[0] == "train"
    return words[1:]


@pytest.mark.parametrize("name", FILES)
def test_the_command_for_each_machine_is_one_that_torchrun_and_vrtool_know(name: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    assert group.commands["train"].make_context("train", train_arguments(name)).params["auto_resume"] is True


@pytest.mark.parametrize("name", FILES)
def test_each_gpu_has_a_pass_of_every_step(name: str) -> None:
    text = (CLOUD / name).read_text(encoding="utf-8")
    num_gpus = 1
    for pattern in NUMBERS_OF_GPUS[name]:
        (number,) = re.findall(pattern, text, re.MULTILINE)
        num_gpus *= int(number)
    words = train_arguments(name)
    recipe = RECIPES / words[0].partition("recipes/")[2]
    changes = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    training = load_recipe(recipe, changes).training
    assert training.accumulate_batches >= num_gpus


@pytest.mark.skipif(os.name != "posix", reason="it is for nodes of a cluster")
def test_the_job_script_of_slurm_is_one_that_bash_can_read() -> None:
    subprocess.run(["bash", "-n", CLOUD / "slurm.sh"], check=True)


@pytest.mark.skipif(os.name != "posix", reason="it is for machines of a cloud, whose shell and signals the tests use")
class TestKeepInBucket:
    def run(self, folder: Path, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        words = [*KEEP, *options, "--", "sh", "-c", command]
        return subprocess.run(words, cwd=folder, text=True, capture_output=True)

    def test_the_bucket_gets_what_the_command_wrote_but_for_second_names_and_unfinished_files(
        self, tmp_path: Path
    ) -> None:
        command = (
            "cd run; echo 1 > step-00000001.safetensors; ln step-00000001.safetensors last.safetensors; echo > .tmp"
        )
        assert self.run(tmp_path, f"{command}; mkdir tensorboard; echo 2 > tensorboard/events").returncode == 0
        kept = sorted(path.relative_to(tmp_path / "bucket") for path in (tmp_path / "bucket").rglob("*.*"))
        assert kept == [Path("step-00000001.safetensors")]
        assert (tmp_path / "bucket" / "tensorboard" / "events").read_text() == "2\n"

    def test_the_next_machine_finds_the_run_as_it_was_and_removes_what_is_no_longer_kept(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, "echo a > run/metrics.jsonl; echo 1 > run/step-00000001.safetensors").returncode == 0
        for path in (tmp_path / "run").iterdir():
            path.unlink()
        command = "cd run; rm step-00000001.safetensors && echo 2 > step-00000002.safetensors; echo b >> metrics.jsonl"
        assert self.run(tmp_path, command).returncode == 0
        assert {path.name for path in (tmp_path / "bucket").iterdir()} == {"metrics.jsonl", "step-00000002.safetensors"}
        assert (tmp_path / "bucket" / "metrics.jsonl").read_text() == "a\nb\n"

    def test_a_machine_that_writes_nothing_leaves_the_bucket_to_the_one_that_does(self, tmp_path: Path) -> None:
        (tmp_path / "bucket").mkdir()
        (tmp_path / "bucket" / "step-00000001.safetensors").write_text("old")
        command = "echo new > bucket/step-00000002.safetensors; rm bucket/step-00000001.safetensors; sleep 0.5"
        assert self.run(tmp_path, command, "--every", "0.1").returncode == 0
        assert [path.name for path in (tmp_path / "bucket").iterdir()] == ["step-00000002.safetensors"]

    def test_what_only_the_machine_has_reaches_the_bucket(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "step-00000003.safetensors").write_text("could not be copied")
        assert self.run(tmp_path, "true").returncode == 0
        assert (tmp_path / "bucket" / "step-00000003.safetensors").read_text() == "could not be copied"

    def test_a_bucket_that_cannot_be_written_is_told_and_keeps_what_it_has(self, tmp_path: Path) -> None:
        (tmp_path / "bucket" / "step-00000002.safetensors").mkdir(parents=True)
        (tmp_path / "bucket" / "step-00000001.safetensors").write_text("old")
        done = self.run(tmp_path, "cd run; rm step-00000001.safetensors; echo 2 > step-00000002.safetensors")
        assert done.returncode == 1
        assert "step-00000002" in done.stderr
        assert (tmp_path / "bucket" / "step-00000001.safetensors").read_text() == "old"

    def test_files_are_brought_while_the_command_runs_and_a_request_to_stop_reaches_it(self, tmp_path: Path) -> None:
        script = "trap 'echo end > run/end; exit 7' TERM; echo start > run/start; while :; do sleep 0.1; done"
        with subprocess.Popen([*KEEP, "--every", "0.1", "--", "sh", "-c", script], cwd=tmp_path) as process:
            wait_for(tmp_path / "bucket" / "start")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 7
        assert (tmp_path / "bucket" / "end").read_text() == "end\n"


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
