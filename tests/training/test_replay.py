"""A skipped step made again: its batches, the cache they come from, and the network they are tried on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vrtool.dataset.cache import Cache, open_cache
from vrtool.dataset.plan import ExamplePlan
from vrtool.errors import CacheError, JobError
from vrtool.model.checkpoint import load_checkpoint
from vrtool.training.bad_steps import BadStep, read_bad_step
from vrtool.training.losses import TrainingLoss, Truth
from vrtool.training.replay import Trial, find_network, open_cache_of, rebuild, require_same_bytes, write_batches
from vrtool.training.run_folder import RunFolder
from vrtool.training.setup import TrainingSetup

MakeSetup = Callable[..., TrainingSetup]
TrainRun = Callable[..., int]
Poison = Callable[..., None]
CPU = torch.device("cpu")


@pytest.fixture
def bad_run(make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, poison: Poison) -> RunFolder:
    """A run of four steps, the third of which was bad; a checkpoint of each is kept."""
    poison(5)
    train_run(make_setup(num_steps=4, keep_checkpoints=9, validate_every_steps=9), tmp_path / "run")
    poison()
    return RunFolder(path=tmp_path / "run")


@pytest.fixture
def bad(bad_run: RunFolder) -> BadStep:
    return read_bad_step(bad_run.bad_step(3))


def notices_of(folder: RunFolder, step: int) -> tuple[list[str], str | None]:
    told: list[str] = []
    found = find_network(folder, step, tell=told.append)
    return told, None if found is None else found[0].name


def with_plan(bad: BadStep, change: Callable[[ExamplePlan], ExamplePlan]) -> BadStep:
    """Return the step with its first example's plan changed."""
    first, *others = bad.batches
    example, *rest = first.examples
    changed = replace(first, examples=(replace(example, plan=change(example.plan)), *rest))
    return replace(bad, batches=(changed, *others))


def test_the_batches_are_made_from_the_plans_and_not_drawn_again(bad: BadStep, divided_cache: Cache) -> None:
    # With another seed, drawing would give others.
    same = list(rebuild(replace(bad, seed=99), open_cache_of(bad, None)))
    assert [batch.is_same for batch in same] == [True, True]
    first = bad.batches[0].examples[0].plan
    louder = replace(first.layers[0], mixture_gains=(0.25, 0.25))
    other = with_plan(bad, lambda plan: replace(plan, layers=(louder, *plan.layers[1:])))
    assert [batch.is_same for batch in rebuild(other, divided_cache)] == [False, True]


def test_a_cache_that_was_prepared_again_is_told_with_the_tracks(
    bad: BadStep, divided_cache: Cache, tmp_path: Path
) -> None:
    shutil.copytree(divided_cache.path, tmp_path / "copy")
    moved = open_cache_of(bad, tmp_path / "copy")
    assert all(batch.is_same for batch in rebuild(bad, moved))
    require_same_bytes(bad, moved, [])
    key = bad.batches[0].examples[0].plan.start_track
    tracks = tuple(
        replace(track, header=replace(track.header, storage={
            role: replace(stored, crc32=stored.crc32 ^ 1) for role, stored in track.header.storage.items()
        }))
        if track.key == key else track
        for track in moved.tracks
    )  # fmt: skip
    with pytest.raises(JobError, match=rf"copy: batch 4 of step 3 came out .* changed since: {key} was prepared again"):
        require_same_bytes(bad, replace(moved, tracks=tracks), [4])


def test_bytes_that_change_in_place_are_told_too(bad: BadStep, divided_cache: Cache, tmp_path: Path) -> None:
    shutil.copytree(divided_cache.path, tmp_path / "copy")
    layer = bad.batches[0].examples[0].plan.layers[0]
    track = next(track for track in open_cache(tmp_path / "copy").tracks if track.key == layer.track)
    content = bytearray(track.path.read_bytes())
    row = layer.offset_frames * track.header.num_channels * track.header.row_type.itemsize
    for stored in track.header.storage.values():
        content[stored.offset_bytes + row + 100] ^= 0x40  # of an integer, not of a row's peak
    track.path.write_bytes(content)
    moved = open_cache_of(bad, tmp_path / "copy")
    differing = [batch.recorded.number for batch in rebuild(bad, moved) if not batch.is_same]
    assert 4 in differing
    with pytest.raises(JobError, match=r"batch(es)? 4.*vrtool inspect-dataset --verify tells, or this processor"):
        require_same_bytes(bad, moved, differing)


def test_a_cache_that_has_not_what_the_plans_take_is_refused_before_anything_reads_it(
    bad: BadStep, divided_cache: Cache, tmp_path: Path
) -> None:
    with pytest.raises(CacheError, match="found none; name it with --cache"):
        open_cache_of(replace(bad, cache=str(tmp_path / "gone")), None)
    layer = bad.batches[0].examples[0].plan.layers[0]
    header = next(track.header for track in divided_cache.tracks if track.key == layer.track)
    for wrong, found in (
        (replace(layer, track="pair/none"), "no such track"),
        (replace(layer, offset_frames=header.num_frames), f"{header.num_frames} frames"),
        (replace(layer, channels=(0, 2)), f"{header.num_channels} channels"),
    ):
        other = with_plan(bad, lambda plan, wrong=wrong: replace(plan, layers=(wrong,)))  # type: ignore[misc]
        with pytest.raises(CacheError, match=f"found {found}; it is another cache"):
            open_cache_of(other, None)


def test_the_newest_sound_checkpoint_from_before_the_step_is_taken(bad_run: RunFolder) -> None:
    assert notices_of(bad_run, 3) == ([], "step-00000003.safetensors")
    assert notices_of(bad_run, 2) == ([], "step-00000002.safetensors")
    bad_run.checkpoint(2).write_bytes(b"")
    told, name = notices_of(bad_run, 2)
    assert (name, len(told)) == ("step-00000001.safetensors", 1)
    assert "step-00000002.safetensors" in told[0]
    for step in (1, 2):
        bad_run.checkpoint(step).unlink()
    # The last and the best of a run of four steps are from after the second.
    assert notices_of(bad_run, 2) == ([], None)
    for step in (3, 4):
        bad_run.checkpoint(step).unlink()
    assert notices_of(bad_run, 4) == ([], "last.safetensors")
    bad_run.last.unlink()
    assert notices_of(bad_run, 4) == ([], "best.safetensors")


def test_the_example_that_is_not_finite_is_found(
    bad_run: RunFolder, bad: BadStep, make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = next(rebuild(bad, open_cache_of(bad, None))).tensor
    culprit = batch[0, 1]
    compute = TrainingLoss.__call__

    def spoiled(loss: TrainingLoss, mask: torch.Tensor, truth: Truth) -> tuple[torch.Tensor, torch.Tensor]:
        total, values = compute(loss, mask, truth)
        has_it = any(torch.equal(mixture, culprit) for mixture in truth.mixture)
        return total / (0.0 if has_it else 1.0), values

    monkeypatch.setattr(TrainingLoss, "__call__", spoiled)
    found = find_network(bad_run, 3, tell=lambda _: None)
    assert found is not None
    trial = Trial(found[1], make_setup().training, CPU)
    outcomes = [trial.run(batch[:, place : place + 1], 0) for place in range(2)]
    assert [outcome.is_finite for outcome in outcomes] == [True, False]
    assert not trial.run(batch, 0).is_finite


def test_examples_are_tried_on_the_weights_that_the_optimiser_had_and_alike_each_time(
    bad_run: RunFolder, bad: BadStep, make_setup: MakeSetup
) -> None:
    (batch, _) = rebuild(bad, open_cache_of(bad, None))
    checkpoint = load_checkpoint(bad_run.checkpoint(2), with_training_state=True)
    state = torch.get_rng_state()
    trial = Trial(checkpoint, make_setup().training, CPU)
    first, again = trial.run(batch.tensor, 4), trial.run(batch.tensor, 4)
    assert first == again
    assert first != trial.run(batch.tensor, 5), "dropout is another batch's"
    assert first.loss > 0.0
    assert first.gradient_norm > 0.0
    # The same network with its average for its newest weights is another.
    averaged = Trial(replace(checkpoint, training_state={}), make_setup().training, CPU).run(batch.tensor, 4)
    assert averaged.loss != first.loss
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("losses", "precision"), [({"l1": 1.0}, "float32"), ({"l1": 0.5, "waveform": 1.0}, "bfloat16")]
)
def test_without_dropout_a_trial_finds_the_very_loss_of_the_run(
    make_setup: MakeSetup,
    train_run: TrainRun,
    tmp_path: Path,
    poison: Poison,
    losses: dict[str, float],
    precision: str,
) -> None:
    setup = make_setup(num_steps=3, keep_checkpoints=9, validate_every_steps=9, losses=losses, precision=precision)
    poison(5)
    train_run(setup, tmp_path)
    poison()
    bad = read_bad_step(tmp_path / "bad-steps/step-00000003.json")
    checkpoint = load_checkpoint(tmp_path / "step-00000002.safetensors", with_training_state=True)
    batch = next(rebuild(bad, open_cache_of(bad, None)))
    assert Trial(checkpoint, setup.training, CPU).run(batch.tensor, batch.recorded.number).loss == batch.recorded.loss


@pytest.mark.parametrize("losses", [{"l1": 1.0}, {"waveform": 1.0}])
def test_batches_are_written_as_they_are(
    make_setup: MakeSetup, train_run: TrainRun, tmp_path: Path, poison: Poison, losses: dict[str, float]
) -> None:
    poison(0)
    train_run(make_setup(num_steps=1, losses=losses), tmp_path / "run")
    bad = read_bad_step(tmp_path / "run/bad-steps/step-00000001.json")
    batches = list(rebuild(bad, open_cache_of(bad, None)))
    write_batches(tmp_path / "batches.safetensors", bad, batches)
    written = load_file(tmp_path / "batches.safetensors")
    assert len(written) == 4
    for number, batch in enumerate(batches):
        parts = torch.view_as_real(batch.tensor) if batch.tensor.is_complex() else batch.tensor
        assert torch.equal(written[f"batch-0000000{number}/mixture"], parts[0])
        assert torch.equal(written[f"batch-0000000{number}/instrumental"], parts[1])
