"""Runs that end without notice, checkpoints that break and disks that fill up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from vrtool.errors import DamagedCheckpointError, InputError, JobError
from vrtool.model.checkpoint import load_checkpoint
from vrtool.training.run_folder import RunFolder
from vrtool.training.setup import TrainingSetup
from vrtool.training.watcher import StepReport, Watcher

MakeSetup = Callable[..., TrainingSetup]
TrainRun = Callable[..., int]


class PowerCutError(Exception):
    pass


def dies_after(step: int) -> Watcher:
    """A watcher that ends the run after a step before anything is saved of it."""

    def on_step(report: StepReport) -> None:
        if report.step == step:
            raise PowerCutError

    return Watcher(on_step=on_step)


def step_names(run: Path) -> list[str]:
    return sorted(path.name for path in run.glob("step-*"))


def is_same_state(first: Path, second: Path) -> bool:
    """Tell whether two checkpoints hold the same weights, averages, moments, random states and counters."""
    one, other = (load_checkpoint(path, with_training_state=True) for path in (first, second))
    pairs = ((one.weights, other.weights), (one.training_state, other.training_state))
    return one.progress == other.progress and all(
        ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        for ours, theirs in pairs
    )


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "flipped": flip_a_bit,
    "empty": lambda path: path.write_bytes(b""),
}


def test_a_run_that_dies_at_any_step_goes_on_as_if_it_had_not(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path
) -> None:
    setup = make_setup(checkpoint_every_steps=3, patience=9)
    train_run(setup, tmp_path / "whole")
    for step in range(1, 7):
        run = tmp_path / f"{step}"
        with pytest.raises(PowerCutError):
            train_run(setup, run, watcher=dies_after(step))
        train_run(setup, run, resume=(run / "last.safetensors").exists())
        for name in ("last.safetensors", "best.safetensors"):
            assert is_same_state(tmp_path / "whole" / name, run / name)


def test_the_newest_checkpoints_are_kept_and_the_last_is_one_of_them(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path
) -> None:
    train_run(make_setup(keep_checkpoints=2), tmp_path)
    assert step_names(tmp_path) == ["step-00000005.safetensors", "step-00000006.safetensors"]
    assert (tmp_path / "last.safetensors").samefile(tmp_path / "step-00000006.safetensors")
    assert load_checkpoint(tmp_path / "step-00000005.safetensors").progress["step"] == 5


def test_where_there_are_no_links_the_last_checkpoint_is_a_copy(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    train_run(make_setup(num_steps=1), tmp_path)
    assert (tmp_path / "last.safetensors").read_bytes() == (tmp_path / "step-00000001.safetensors").read_bytes()
    flip_a_bit(tmp_path / "step-00000001.safetensors")
    assert RunFolder(path=tmp_path).resume(tell=lambda _: None)[0].name == "last.safetensors"


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_checkpoint_is_told_and_the_one_before_it_used(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, breakage: str
) -> None:
    train_run(make_setup(), tmp_path / "whole")
    with pytest.raises(PowerCutError):
        train_run(make_setup(), tmp_path / "run", watcher=dies_after(5))
    BREAKAGES[breakage](tmp_path / "run" / "step-00000004.safetensors")
    notices: list[str] = []
    steps: list[int] = []
    watcher = Watcher(on_notice=notices.append, on_step=lambda report: steps.append(report.step))
    train_run(make_setup(), tmp_path / "run", resume=True, watcher=watcher)
    assert len(notices) == 1
    assert "step-00000004.safetensors is damaged" in notices[0]
    assert "Going on from step-00000003.safetensors" in notices[0]
    assert steps == [4, 5, 6]
    assert is_same_state(tmp_path / "whole" / "last.safetensors", tmp_path / "run" / "last.safetensors")


def test_a_broken_checkpoint_of_a_later_step_is_not_kept(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path
) -> None:
    train_run(make_setup(num_steps=5), tmp_path)
    BREAKAGES["truncated"](tmp_path / "step-00000005.safetensors")
    setup = make_setup(num_steps=6)
    with pytest.raises(PowerCutError):
        train_run(setup, tmp_path, resume=True, watcher=dies_after(6))
    assert step_names(tmp_path) == [f"step-0000000{step}.safetensors" for step in (3, 4, 5)]
    assert load_checkpoint(tmp_path / "step-00000005.safetensors", with_training_state=True).progress["step"] == 5


def test_a_run_whose_checkpoints_are_all_broken_is_not_resumed(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path
) -> None:
    train_run(make_setup(num_steps=2), tmp_path)
    for path in tmp_path.glob("step-*"):
        path.write_bytes(b"")
    with pytest.raises(DamagedCheckpointError, match=r"step-00000002\.safetensors is damaged"):
        train_run(make_setup(), tmp_path, resume=True)
    with pytest.raises(InputError, match="holds a run already"):
        train_run(make_setup(), tmp_path)


def test_a_run_of_a_single_checkpoint_file_is_resumed(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path
) -> None:
    train_run(make_setup(), tmp_path / "whole")
    train_run(make_setup(num_steps=3), tmp_path / "run")
    for path in (tmp_path / "run").glob("step-*"):
        path.unlink()
    train_run(make_setup(), tmp_path / "run", resume=True)
    whole, run = (load_checkpoint(tmp_path / name / "last.safetensors").weights for name in ("whole", "run"))
    assert all(torch.equal(whole[name], run[name]) for name in whole)


def test_a_full_disk_costs_checkpoints_but_not_the_run(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, limit_file_size: Callable[[int], None]
) -> None:
    notices: list[str] = []

    def on_step(report: StepReport) -> None:
        # There is room again before the last step.
        limit_file_size(4096 if 3 <= report.step <= 5 else 1 << 30)

    train_run(make_setup(), tmp_path / "whole")
    train_run(make_setup(), tmp_path / "run", watcher=Watcher(on_step=on_step, on_notice=notices.append))
    assert [name for name in notices if "step-00000004.safetensors: File too large; step 4 is not saved" in name]
    assert not [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    assert step_names(tmp_path / "run") == [f"step-0000000{step}.safetensors" for step in (1, 2, 6)]
    whole, run = (load_checkpoint(tmp_path / name / "last.safetensors").weights for name in ("whole", "run"))
    assert all(torch.equal(whole[name], run[name]) for name in whole)


def test_a_last_checkpoint_without_room_fails_the_run_which_resumes(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, limit_file_size: Callable[[int], None]
) -> None:
    setup = make_setup(num_validation_examples=0)
    watcher = Watcher(on_step=lambda report: limit_file_size(4096) if report.step == 6 else None)
    with pytest.raises(JobError, match="step 6, the last one, could not be saved"):
        train_run(setup, tmp_path, watcher=watcher)
    limit_file_size(1 << 30)
    assert train_run(setup, tmp_path, resume=True) == 6
    assert load_checkpoint(tmp_path / "last.safetensors").progress["step"] == 6


def test_metrics_without_room_are_left_out_line_by_line(tmp_path: Path, limit_file_size: Callable[[int], None]) -> None:
    folder = RunFolder(path=tmp_path)
    folder.append_metrics({"step": 1})
    limit_file_size(folder.metrics.stat().st_size + 5)
    with pytest.raises(OSError, match=r"File too large|no room"):
        folder.append_metrics({"step": 2})
    limit_file_size(1 << 20)
    folder.append_metrics({"step": 3})
    assert [json.loads(line) for line in folder.metrics.read_text().splitlines()] == [{"step": 1}, {"step": 3}]


def test_metrics_without_room_are_told_once_and_do_not_end_the_run(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, limit_file_size: Callable[[int], None]
) -> None:
    notices: list[str] = []
    setup = make_setup(checkpoint_every_steps=100)
    watcher = Watcher(
        on_step=lambda report: limit_file_size(1 if report.step < 6 else 1 << 30), on_notice=notices.append
    )
    assert train_run(setup, tmp_path, watcher=watcher) == 6
    assert len([notice for notice in notices if "metrics.jsonl" in notice]) == 1
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [0, 6, 6]


def test_a_run_ends_when_its_patience_does_and_goes_on_with_more_of_it(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path
) -> None:
    # A rate of next to nothing: the first validation stays the best, as the loss moves up or down by nothing.
    setup = make_setup(num_steps=40, patience=2, learning_rate=1e-30, final_learning_rate=0.0, ema_decay=0.0)
    # What moves without a rate are the statistics of batch norms.
    setup = replace(setup, training=replace(setup.training, freeze=("*norm*",), checkpoint_every_steps=100))
    notices: list[str] = []
    assert train_run(setup, tmp_path, watcher=Watcher(on_notice=notices.append)) == 6
    assert notices[0].startswith("step 6: 2 validations in a row without a loss below ")
    assert load_checkpoint(tmp_path / "last.safetensors").progress["validations_without_gain"] == 2
    assert train_run(setup, tmp_path, resume=True) == 6
    patient = replace(setup, training=replace(setup.training, patience=4))
    assert train_run(patient, tmp_path, resume=True) == 10


def test_gradients_of_float16_are_scaled_until_they_fit_and_the_scale_is_resumed(
    train_run: TrainRun, make_setup: MakeSetup, tmp_path: Path
) -> None:
    # Far too large for half precision, scaled up or not: the scale comes down one step after the other.
    setup = make_setup(num_steps=30, precision="float16", losses={"l1": 1e6}, clip_gradient_norm=0.5)
    assert train_run(setup, tmp_path / "whole") == 30
    checkpoint = load_checkpoint(tmp_path / "whole" / "last.safetensors", with_training_state=True)
    assert 3 < cast(int, checkpoint.progress["skipped_steps"]) < 30
    assert checkpoint.progress["bad_steps_in_a_row"] == 0
    assert 0 < float(checkpoint.training_state["scaler.scale"]) < 2**14
    with pytest.raises(PowerCutError):
        train_run(setup, tmp_path / "cut", watcher=dies_after(25))
    train_run(setup, tmp_path / "cut", resume=True)
    assert is_same_state(tmp_path / "whole" / "last.safetensors", tmp_path / "cut" / "last.safetensors")
