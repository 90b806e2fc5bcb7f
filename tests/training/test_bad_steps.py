"""Steps without finite gradients: what is put down of them, and where a run ends that has no others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vrtool.dataset.cache import Cache
from vrtool.dataset.examples import ExampleBuilder, batch_sha256, build_batch
from vrtool.errors import InputError, JobError
from vrtool.model.checkpoint import load_checkpoint
from vrtool.training import trainer
from vrtool.training.bad_steps import read_bad_step
from vrtool.training.loading import load_batches
from vrtool.training.run_folder import RunFolder
from vrtool.training.setup import TrainingSetup
from vrtool.training.watcher import Watcher

MakeSetup = Callable[..., TrainingSetup]
TrainRun = Callable[..., int]
Poison = Callable[..., None]


def is_same_state(first: Path, second: Path) -> bool:
    one, other = (load_checkpoint(path, with_training_state=True) for path in (first, second))
    return one.progress == other.progress and all(
        ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        for ours, theirs in ((one.weights, other.weights), (one.training_state, other.training_state))
    )


def logged(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


@pytest.mark.parametrize("losses", [{"l1": 1.0}, {"waveform": 1.0}])
def test_a_bad_steps_file_makes_the_very_batches_that_the_network_saw(
    make_setup: MakeSetup,
    train_run: TrainRun,
    divided_cache: Cache,
    tmp_path: Path,
    poison: Poison,
    monkeypatch: pytest.MonkeyPatch,
    losses: dict[str, float],
) -> None:
    seen: list[str] = []

    def watched(*arguments: Any, **options: Any) -> Iterator[torch.Tensor]:
        for batch in load_batches(*arguments, **options):
            seen.append(batch_sha256(batch))
            yield batch

    monkeypatch.setattr(trainer, "load_batches", watched)
    poison(5)
    # The third step, in its second epoch, whose crops are longer.
    setup = make_setup(losses=losses, epoch_examples=8, crop_stages=((1, 8),), seed=7)
    assert train_run(setup, tmp_path) == 6
    assert [path.name for path in (tmp_path / "bad-steps").iterdir()] == ["step-00000003.json"]
    bad = read_bad_step(tmp_path / "bad-steps/step-00000003.json")
    assert [batch.sha256 for batch in bad.batches] == seen[4:6]
    builder = ExampleBuilder(tracks={track.key: track for track in divided_cache.tracks}, stft=divided_cache.stft)
    for batch in bad.batches:
        rebuilt = build_batch(builder, [example.plan for example in batch.examples], bad.content)
        assert rebuilt.shape == (2, 2, 2, 129, 16)
        assert batch_sha256(rebuilt) == batch.sha256
    assert [[(one.number, one.epoch, one.index) for one in batch.examples] for batch in bad.batches] == [
        [(8, 1, 0), (9, 1, 1)],
        [(10, 1, 2), (11, 1, 3)],
    ]


def test_a_bad_steps_file_says_what_was_not_finite_and_where_its_sound_came_from(
    make_setup: MakeSetup,
    train_run: TrainRun,
    divided_cache: Cache,
    small_library: Path,
    tmp_path: Path,
    poison: Poison,
) -> None:
    poison(5)
    train_run(make_setup(seed=7), tmp_path)
    bad = read_bad_step(tmp_path / "bad-steps/step-00000003.json")
    assert bad.reason == "the loss of batch 5 is nan and the norm of the gradients is nan"
    losses = [batch.loss for batch in bad.batches]
    assert losses[0] is not None
    assert 0.0 < losses[0] < 1.0
    assert str(losses[1]) == str(bad.gradient_norm) == "nan"
    assert (bad.step, bad.seed, bad.precision, bad.recipe) == (3, 7, "float32", "[training]\n")
    assert bad.learning_rate == pytest.approx(1e-2)
    assert bad.cache == str(divided_cache.path.absolute())
    plans = [example.plan for batch in bad.batches for example in batch.examples]
    assert bad.tracks.keys() == {layer.track for plan in plans for layer in plan.all_layers}
    for origin in bad.tracks.values():
        assert (divided_cache.path / origin.file).is_file()
        assert all(Path(path).is_relative_to(small_library) for paths in origin.sources.values() for path in paths)
    (line,) = logged(tmp_path, "bad_step")
    assert (line["step"], line["reason"], line["file"]) == (3, bad.reason, "bad-steps/step-00000003.json")
    assert logged(tmp_path, "training")[-1]["num_skipped_steps"] == 1


def test_a_file_keeps_all_that_is_known_of_a_step(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, poison: Poison
) -> None:
    poison(0)
    train_run(make_setup(num_steps=1), tmp_path)
    path = tmp_path / "bad-steps/step-00000001.json"
    bad = read_bad_step(path)
    unknown = replace(bad, gradient_norm=float("-inf"), batches=(replace(bad.batches[1], loss=None),))
    path.write_text(json.dumps(unknown.to_json(), allow_nan=False), encoding="utf-8")
    assert read_bad_step(path) == unknown


def test_three_bad_steps_end_the_run_with_the_state_from_before_and_it_goes_on_as_if_they_had_not_been(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, poison: Poison
) -> None:
    # No checkpoint is due near them, but a validation is.
    setup = make_setup(checkpoint_every_steps=100)
    train_run(make_setup(num_steps=2), tmp_path / "two steps")
    train_run(setup, tmp_path / "whole")
    poison(5, 7, 8)  # steps 3, 4 and 5
    run = tmp_path / "run"
    with pytest.raises(JobError) as ended:
        train_run(setup, run)
    assert str(ended.value) == (
        "step 5: no finite gradients 3 times in a row; lower training.learning_rate, and go on with --resume from "
        f"{run}/step-00000002.safetensors, which is from before them; vrtool train --replay "
        f"{run}/bad-steps/step-00000003.json shows what the first of them was made of"
    )
    assert is_same_state(run / "step-00000002.safetensors", tmp_path / "two steps/step-00000002.safetensors")
    assert (run / "last.safetensors").samefile(run / "step-00000002.safetensors")
    assert [line["step"] for line in logged(run, "bad_step")] == [3, 4, 5]
    poison()
    assert train_run(setup, run, resume=True) == 6
    assert is_same_state(run / "last.safetensors", tmp_path / "whole/last.safetensors")
    assert logged(run, "bad_step") == []
    assert logged(run, "validation") == logged(tmp_path / "whole", "validation")


def test_checkpoints_of_bad_steps_give_way_to_the_one_from_before(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, poison: Poison
) -> None:
    train_run(make_setup(num_steps=2), tmp_path / "two steps")
    poison(5, 7, 8)
    with pytest.raises(JobError, match="no finite gradients 3 times in a row"):
        train_run(make_setup(keep_checkpoints=1, precision="bfloat16"), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").glob("step-*")] == ["step-00000002.safetensors"]


def test_less_precision_is_told_among_what_to_change(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, poison: Poison
) -> None:
    poison(0, 2, 4)
    with pytest.raises(JobError, match=r'or set training\.precision = "float32", and go on with --resume'):
        train_run(make_setup(precision="bfloat16"), tmp_path)
    assert load_checkpoint(tmp_path / "last.safetensors").progress["step"] == 0


def test_two_bad_steps_on_either_side_of_a_resumption_are_no_three(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, poison: Poison
) -> None:
    poison(0, 2, 6, 8)
    assert train_run(make_setup(), tmp_path) == 6
    assert load_checkpoint(tmp_path / "last.safetensors").progress["skipped_steps"] == 4


def test_a_row_of_bad_steps_that_a_resumption_cuts_ends_at_the_resumption(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, poison: Poison
) -> None:
    poison(2, 4)
    train_run(make_setup(num_steps=3), tmp_path)
    poison(0)
    with pytest.raises(JobError, match=r"step 4: no finite .* --resume from .*step-00000003\.safetensors"):
        train_run(make_setup(), tmp_path, resume=True)
    progress = load_checkpoint(tmp_path / "last.safetensors").progress
    assert (progress["step"], progress["skipped_steps"], progress["bad_steps_in_a_row"]) == (3, 2, 0)


def test_weights_that_stop_being_numbers_take_the_place_of_no_good_checkpoint(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path
) -> None:
    train_run(make_setup(num_steps=2), tmp_path)
    explosive = make_setup(learning_rate=1e60, warmup_steps=0, keep_checkpoints=1)
    with pytest.raises(JobError, match=r"holds numbers that are not finite.*step-00000002\.safetensors is from before"):
        train_run(explosive, tmp_path, resume=True)
    assert train_run(make_setup(), tmp_path, resume=True) == 6


def test_a_run_without_any_good_checkpoint_says_so(make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is no checkpoint from before; start again with a lower"):
        train_run(make_setup(learning_rate=1e38, warmup_steps=0), tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_full_disk_costs_the_file_of_a_bad_step_but_not_the_run(
    make_setup: MakeSetup,
    train_run: TrainRun,
    tmp_path: Path,
    poison: Poison,
    limit_file_size: Callable[[int], None],
) -> None:
    notices: list[str] = []
    poison(2, 8)
    watcher = Watcher(
        on_step=lambda report: limit_file_size(2048 if report.step == 4 else 1 << 30), on_notice=notices.append
    )
    assert train_run(make_setup(checkpoint_every_steps=100), tmp_path, watcher=watcher) == 6
    assert [path.name for path in (tmp_path / "bad-steps").iterdir()] == ["step-00000002.json"]
    assert [notice for notice in notices if "step-00000005.json: File too large; what step 5 was made of" in notice]
    assert [line["file"] for line in logged(tmp_path, "bad_step")] == ["bad-steps/step-00000002.json", None]


def test_a_new_run_begins_without_the_bad_steps_of_one_that_ended_early(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path
) -> None:
    (tmp_path / "bad-steps").mkdir()
    (tmp_path / "bad-steps/step-00000001.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="expected an empty folder for the run, found bad-steps"):
        train_run(make_setup(num_steps=1), tmp_path)
    RunFolder(path=tmp_path).metrics.write_text("", encoding="utf-8")
    assert train_run(make_setup(num_steps=1), tmp_path) == 1
    assert not (tmp_path / "bad-steps").exists()


def change(values: Any, *path: Any) -> None:
    *way, last, value = path
    for step in way:
        values = values[step]
    values[last] = value


@pytest.mark.parametrize(
    "path",
    [
        ("format_version", 2),
        ("colour", "red"),
        ("content", "noise"),
        ("step", "1"),
        ("recipe", None),
        ("gradient_norm", "large"),
        ("batches", []),
        ("batches", 0, "examples", []),
        ("batches", 0, "loss", []),
        ("batches", 0, "examples", 0, "number", "a"),
        ("batches", 0, "examples", 0, "plan", "num_frames", 17),
        ("tracks", "x", {"file": "x"}),
        ("tracks", "x", {"file": "x", "crc32": {}, "sources": {"vocals": [1]}}),
        ("tracks", "x", {"file": "x", "crc32": {}, "sources": {"vocals": 1}}),
    ],
)
def test_a_file_that_no_run_wrote_is_refused(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, poison: Poison, path: tuple[Any, ...]
) -> None:
    poison(0)
    train_run(make_setup(num_steps=1), tmp_path)
    file = tmp_path / "bad-steps/step-00000001.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    change(values, *path)
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(InputError, match=r"step-00000001\.json"):
        read_bad_step(file)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 1}', "\x00"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.json: expected a file that vrtool train wrote"):
        read_bad_step(tmp_path / "bad.json")
    with pytest.raises(InputError, match="expected a file of a run's bad-steps, found a folder"):
        read_bad_step(tmp_path)
