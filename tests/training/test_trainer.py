"""Training as a whole, on a cache of a few short tracks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vrtool.audio.distortion import nsdr
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import Waveform, write_audio
from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.dataset.cache import Cache, open_cache
from vrtool.dataset.examples import ExampleBuilder
from vrtool.errors import InputError, InterruptedRunError, RecipeError
from vrtool.model import ModelConfig
from vrtool.model.checkpoint import load_checkpoint, load_model
from vrtool.preparation import Library, PreparationSettings, plan_preparation, prepare
from vrtool.training import trainer
from vrtool.training.config import TrainingConfig
from vrtool.training.distributed import World
from vrtool.training.loading import load_batches
from vrtool.training.run_folder import RunFolder
from vrtool.training.setup import TrainingSetup
from vrtool.training.trainer import Resume, train
from vrtool.training.validation import ValidationResult, validation_set
from vrtool.training.watcher import StepReport, Watcher

STFT = StftSpec(sample_rate=8000, n_fft=128, hop_length=64)
SETUP = TrainingSetup(
    recipe_text="[training]\n",
    model=ModelConfig(
        n_fft=128, channels=2, num_bands=2, feedforward_dim=16, num_encoders=1, num_decoders=1, dropout=0.1
    ),
    augmentation=AugmentationConfig(),
    training=TrainingConfig(
        num_steps=6,
        batch_size=2,
        accumulate_batches=2,
        crop_frames=16,
        learning_rate=1e-2,
        warmup_steps=2,
        decay_steps=10,
        validate_every_steps=2,
        checkpoint_every_steps=2,
        num_validation_examples=3,
        num_loader_workers=0,
    ),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache of four instrumentals (noise below 2 kHz) and four vocals (above), one of each kept for validation."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind, lowest_hz in (("instrumentals", 0), ("vocals", 2000)):
        for number in range(4):
            spectrum = np.fft.rfft(rng.standard_normal((2, 2 * STFT.sample_rate)))
            spectrum[:, : 2 * lowest_hz] = spectrum[:, 2 * (lowest_hz + 2000) :] = 0.0
            path = folder / kind / f"{number}.wav"
            path.parent.mkdir(exist_ok=True)
            samples = (0.1 * np.fft.irfft(spectrum)).astype(np.float32)
            write_audio(path, Waveform(samples=samples, sample_rate=STFT.sample_rate))
    libraries = [
        Library(kind="instrumental", root=folder / "instrumentals"),
        Library(kind="vocal", root=folder / "vocals"),
    ]
    plan = plan_preparation(libraries, PreparationSettings(output=folder / "cache", stft=STFT, validation="0.1"))
    with ThreadPoolExecutor(1) as executor:
        prepare(plan, executor)
    return open_cache(folder / "cache")


def with_training(**changes: object) -> TrainingSetup:
    return replace(SETUP, training=replace(SETUP.training, **changes))  # type: ignore[arg-type]


def run(setup: TrainingSetup, cache: Cache, path: Path, *, resume: bool = False, watcher: Watcher | None = None) -> int:
    how: Resume = "always" if resume else "never"
    return train(setup, cache, RunFolder(path=path), world=World(), resume=how, watcher=watcher)


def metrics(path: Path, kind: str) -> list[dict[str, float]]:
    lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path / "last.safetensors").weights


def test_a_run_learns_to_tell_high_from_low(cache: Cache, tmp_path: Path) -> None:
    setup = with_training(num_steps=24, validate_every_steps=6, decay_steps=60)
    augmentation = replace(SETUP.augmentation, mixup_probability=0.0, vocals_equaliser_probability=0.0)
    run(replace(setup, augmentation=augmentation), cache, tmp_path / "run")
    first, *_, last = metrics(tmp_path / "run", "validation")
    assert last["loss"] < first["loss"] / 2
    assert last["instrumental_nsdr_db"] > 10.0


@pytest.mark.parametrize("losses", [{"stft": 1.0}, {"waveform": 1.0}, {"l1": 1.0, "stft": 0.1, "waveform": 0.1}])
def test_a_run_learns_by_what_is_heard_and_tells_each_loss(
    cache: Cache, tmp_path: Path, losses: dict[str, float]
) -> None:
    setup = with_training(
        num_steps=24, validate_every_steps=6, decay_steps=60, losses=losses, stft_loss_n_fft=(64, 256)
    )
    augmentation = replace(SETUP.augmentation, mixup_probability=0.0, vocals_equaliser_probability=0.0)
    run(replace(setup, augmentation=augmentation), cache, tmp_path / "run")
    first, *_, last = metrics(tmp_path / "run", "validation")
    assert last["loss"] < first["loss"] / 2
    assert last["instrumental_nsdr_db"] > 10.0
    (*_, logged) = metrics(tmp_path / "run", "training")
    terms: Any = logged["loss_terms"]
    assert terms.keys() == losses.keys()
    assert logged["loss"] == pytest.approx(sum(losses[name] * terms[name] for name in losses))


def test_a_run_that_listens_resumes_to_the_bit_with_blends_workers_and_growing_crops(
    cache: Cache, tmp_path: Path
) -> None:
    setup = with_training(
        losses={"stft": 1.0, "waveform": 1.0}, stft_loss_n_fft=(64,), crop_stages=((4, 8),), precision="bfloat16"
    )
    setup = replace(setup, augmentation=replace(SETUP.augmentation, mixup_probability=1.0))
    run(setup, cache, tmp_path / "whole")
    steps: list[int] = []
    watcher = Watcher(on_step=lambda report: steps.append(report.step), stop_asked=lambda: steps[-1] == 3)
    with pytest.raises(InterruptedRunError):
        run(replace(setup, training=replace(setup.training, num_loader_workers=1)), cache, tmp_path / "parts",
            watcher=watcher)  # fmt: skip
    run(setup, cache, tmp_path / "parts", resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_autoregressive_network_can_be_trained_by_what_is_heard(cache: Cache, tmp_path: Path) -> None:
    model = replace(SETUP.model, architecture="autoregressive", num_bands=1)
    setup = replace(with_training(num_steps=2, losses={"waveform": 1.0}), model=model)
    run(setup, cache, tmp_path)
    assert metrics(tmp_path, "validation")[-1]["step"] == 2


def test_crops_too_short_for_a_losss_windows_are_refused(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"crops of 8 frames give the losses 448 samples to hear, expected 4096"):
        run(with_training(losses={"stft": 1.0}, crop_stages=((1, 8),)), cache, tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_autoregressive_network_learns_by_the_same_command_and_resumes(cache: Cache, tmp_path: Path) -> None:
    model = replace(SETUP.model, architecture="autoregressive", num_bands=1, channels=4, look_ahead_frames=2)
    augmentation = replace(SETUP.augmentation, mixup_probability=0.0, vocals_equaliser_probability=0.0)
    setup = replace(with_training(num_steps=40, validate_every_steps=10, decay_steps=60), model=model)
    setup = replace(setup, augmentation=augmentation)
    run(setup, cache, tmp_path / "whole")
    first, *_, last = metrics(tmp_path / "whole", "validation")
    assert last["loss"] < first["loss"] * 0.7
    steps: list[int] = []
    watcher = Watcher(on_step=lambda report: steps.append(report.step), stop_asked=lambda: steps[-1] == 30)
    with pytest.raises(InterruptedRunError):
        run(setup, cache, tmp_path / "parts", watcher=watcher)
    run(setup, cache, tmp_path / "parts", resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_recomputing_activations_changes_nothing_but_memory(cache: Cache, tmp_path: Path) -> None:
    for recomputes in (False, True):
        run(with_training(num_steps=2, recompute_activations=recomputes), cache, tmp_path / str(recomputes))
    kept, recomputed = weights(tmp_path / "False"), weights(tmp_path / "True")
    assert all(torch.allclose(kept[name], recomputed[name], atol=1e-5) for name in kept)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_training_in_half_precision_keeps_weights_in_float32_and_learns_as_well(
    cache: Cache, tmp_path: Path, precision: str
) -> None:
    setup = with_training(num_steps=12, precision=precision, recompute_activations=True)
    run(setup, cache, tmp_path / "run")
    assert {tensor.dtype for name, tensor in weights(tmp_path / "run").items() if "num_batches" not in name} == {
        torch.float32
    }
    first, *_, last = metrics(tmp_path / "run", "validation")
    assert last["loss"] < first["loss"]


def test_what_cannot_be_recomputed_or_compiled_is_refused(cache: Cache, tmp_path: Path) -> None:
    setup = replace(with_training(recompute_activations=True), model=replace(SETUP.model, n_fft=128, num_bands=1))
    setup = replace(setup, model=replace(setup.model, architecture="autoregressive"))
    with pytest.raises(RecipeError, match="'autoregressive' keeps what it computes"):
        run(setup, cache, tmp_path / "run")
    setup = replace(setup, training=replace(setup.training, recompute_activations=False, compile=True))
    with pytest.raises(RecipeError, match="autoregressive networks are not compiled"):
        run(setup, cache, tmp_path / "run")


@pytest.mark.parametrize("crop_stages", [(), ((4, 8),)])
def test_a_run_stopped_and_resumed_ends_with_the_weights_of_an_undisturbed_one(
    cache: Cache, tmp_path: Path, crop_stages: tuple[tuple[int, int], ...]
) -> None:
    setup = with_training(crop_stages=crop_stages)
    run(setup, cache, tmp_path / "whole")
    steps: list[int] = []
    watcher = Watcher(on_step=lambda report: steps.append(report.step), stop_asked=lambda: steps[-1] == 3)
    with pytest.raises(InterruptedRunError, match=r"stopped after step 3 of 6.*--resume"):
        run(setup, cache, tmp_path / "parts", watcher=watcher)
    run(setup, cache, tmp_path / "parts", resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert metrics(tmp_path / "whole", "validation") == metrics(tmp_path / "parts", "validation")


def test_metrics_written_after_the_last_checkpoint_are_dropped_on_resuming(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        run(SETUP, cache, tmp_path, watcher=Watcher(stop_asked=lambda: True))
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "validation", "step": 4, "loss": 9.0}\n{"kind": "vali')
    run(SETUP, cache, tmp_path, resume=True)
    assert [line["step"] for line in metrics(tmp_path, "validation")] == [2, 4, 6]
    assert all(line["loss"] < 9.0 for line in metrics(tmp_path, "validation"))


def test_the_number_of_loader_workers_changes_nothing(cache: Cache, tmp_path: Path) -> None:
    setup = with_training(crop_stages=((1, 8),))
    run(setup, cache, tmp_path / "none")
    run(replace(setup, training=replace(setup.training, num_loader_workers=2)), cache, tmp_path / "two")
    none, two = weights(tmp_path / "none"), weights(tmp_path / "two")
    assert all(torch.equal(none[name], two[name]) for name in none)


@pytest.mark.parametrize(("epoch_examples", "steps_per_epoch"), [(5, 2), (8, 2), (9, 3), (0, 1)])
def test_crops_grow_after_epochs_of_whole_steps(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch_examples: int, steps_per_epoch: int
) -> None:
    # A step is 2 passes of 2 examples; with 0, an epoch has an example for each of the 3 instrumentals.
    lengths: list[int] = []

    def seen(*arguments: Any, **options: Any) -> Iterator[torch.Tensor]:
        for batch in load_batches(*arguments, **options):
            lengths.append(batch.shape[-1])
            yield batch

    monkeypatch.setattr(trainer, "load_batches", seen)
    setup = with_training(crop_stages=((1, 8), (1, 12)), epoch_examples=epoch_examples, num_validation_examples=0)
    run(setup, cache, tmp_path)
    batches_per_epoch = 2 * steps_per_epoch
    assert lengths == ([8] * batches_per_epoch + [12] * batches_per_epoch + [16] * 12)[:12]


def test_a_checkpoint_gives_the_mask_of_the_network_that_was_trained(cache: Cache, tmp_path: Path) -> None:
    run(SETUP, cache, tmp_path)
    builder_result = validation_results(cache, tmp_path / "last.safetensors")
    logged = metrics(tmp_path, "validation")[-1]
    assert builder_result.loss == pytest.approx(logged["loss"], rel=1e-6)
    assert builder_result.vocals_nsdr_db == pytest.approx(logged["vocals_nsdr_db"], rel=1e-5)


def validation_results(cache: Cache, checkpoint: Path) -> ValidationResult:
    builder = ExampleBuilder(tracks={track.key: track for track in cache.tracks}, stft=cache.stft)
    examples = validation_set(cache, builder, crop_frames=16, num_examples=3)
    result = examples.judge(load_model(checkpoint), World())
    assert result is not None
    return result


def test_the_best_checkpoint_is_the_one_with_the_lowest_validation_loss(cache: Cache, tmp_path: Path) -> None:
    run(SETUP, cache, tmp_path)
    losses = {line["step"]: line["loss"] for line in metrics(tmp_path, "validation")}
    best = load_checkpoint(tmp_path / "best.safetensors", with_training_state=True)
    assert best.progress["step"] == min(losses, key=losses.__getitem__)
    assert best.training_state == {}


def test_every_step_is_reported_with_what_a_display_shows(cache: Cache, tmp_path: Path) -> None:
    reports: list[StepReport] = []
    run(SETUP, cache, tmp_path, watcher=Watcher(on_step=reports.append))
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert all(report.loss > 0.0 and report.examples_per_second > 0.0 for report in reports)
    assert all(sum(report.time_shares.values()) == pytest.approx(1.0) for report in reports)
    assert all(report.time_shares[phase] > 0.0 for report in reports for phase in ("data", "forward", "optimiser"))
    assert reports[-1].seconds_left == 0.0


def test_a_folder_with_a_run_is_neither_overwritten_nor_resumed_by_accident(cache: Cache, tmp_path: Path) -> None:
    run(with_training(num_steps=1), cache, tmp_path)
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(InputError, match="holds a run already; add --resume"):
        run(with_training(num_steps=1), cache, tmp_path)
    assert (tmp_path / "last.safetensors").read_bytes() == before
    with pytest.raises(InputError, match="nothing to resume"):
        run(SETUP, cache, tmp_path / "elsewhere", resume=True)


def test_a_run_is_not_resumed_as_another_network(cache: Cache, tmp_path: Path) -> None:
    run(with_training(num_steps=1), cache, tmp_path)
    other = replace(SETUP, model=replace(SETUP.model, channels=4))
    with pytest.raises(InputError, match="channels 2, the recipe says 4"):
        run(other, cache, tmp_path, resume=True)


def test_a_cache_of_another_n_fft_is_refused_naming_both(cache: Cache, tmp_path: Path) -> None:
    other = replace(SETUP, model=replace(SETUP.model, n_fft=256))
    with pytest.raises(RecipeError, match="n_fft 128, the recipe says 256"):
        run(other, cache, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_network_of_fixed_length_needs_crops_of_that_length(cache: Cache, tmp_path: Path) -> None:
    fixed = replace(SETUP, model=replace(SETUP.model, position="ancestor", crop_frames=32))
    with pytest.raises(RecipeError, match=r"crops have 16 frames, this network takes exactly 32"):
        run(fixed, cache, tmp_path)


def test_a_network_of_fixed_length_has_no_use_for_shorter_crops(cache: Cache, tmp_path: Path) -> None:
    setup = with_training(crop_stages=((1, 8),))
    fixed = replace(setup, model=replace(SETUP.model, position="ancestor", crop_frames=16))
    with pytest.raises(RecipeError, match=r"crops have 8 and 16 frames, this network takes exactly 16"):
        run(fixed, cache, tmp_path)


def test_a_library_that_training_does_not_know_is_refused(cache: Cache, tmp_path: Path) -> None:
    weighted = replace(SETUP.augmentation, library_weights={"vocal/choirs": 2.0})
    with pytest.raises(RecipeError, match=r"'vocal/choirs'.*known are instrumental/instrumentals, vocal/vocals"):
        run(replace(SETUP, augmentation=weighted), cache, tmp_path)
    assert not any(tmp_path.iterdir())


def test_weights_that_leave_nothing_to_train_on_are_refused(cache: Cache, tmp_path: Path) -> None:
    weighted = replace(SETUP.augmentation, library_weights={"vocal/vocals": 0.0})
    with pytest.raises(InputError, match="found 3 instrumentals, 0 vocals and 0 pairs"):
        run(replace(SETUP, augmentation=weighted), cache, tmp_path)


def test_a_network_is_judged_by_tracks_kept_for_validation_in_full_crops(cache: Cache) -> None:
    builder = ExampleBuilder(tracks={track.key: track for track in cache.tracks}, stft=cache.stft)
    examples = validation_set(cache, builder, crop_frames=16, num_examples=20)
    kept = {track.key for track in cache.tracks if track.split == "validation"}
    assert {layer.track for plan in examples.plans for layer in plan.layers} == kept
    assert {plan.num_frames for plan in examples.plans} == {16}


def test_each_validation_song_is_judged_by_name_and_all_of_them_make_the_mean(cache: Cache, tmp_path: Path) -> None:
    run(with_training(num_steps=2), cache, tmp_path)
    result = validation_results(cache, tmp_path / "last.safetensors")
    kept = [track for track in cache.tracks if track.split == "validation" and track.header.kind == "instrumental"]
    assert [(song.kind, song.name) for song in result.songs] == [("instrumental", track.header.name) for track in kept]
    (song,) = result.songs
    assert song.num_examples == 3
    assert (song.vocals_nsdr_db, song.instrumental_nsdr_db) == (result.vocals_nsdr_db, result.instrumental_nsdr_db)


def test_the_mixture_scores_what_it_would_as_an_estimate(cache: Cache) -> None:
    builder = ExampleBuilder(tracks={track.key: track for track in cache.tracks}, stft=cache.stft)
    examples = validation_set(cache, builder, crop_frames=16, num_examples=1)

    class PassEverything(torch.nn.Module):
        def forward(self, mixture: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(mixture)

    result = examples.judge(PassEverything(), World())
    assert result is not None
    (song,) = result.songs
    # With the mixture for the instrumental, silence is left for the vocals: 0 dB.
    assert song.vocals_nsdr_db == pytest.approx(0.0, abs=1e-4)
    assert song.mixture_instrumental_nsdr_db == pytest.approx(song.instrumental_nsdr_db, abs=1e-3)
    mixture, instrumental = builder.build_complex(examples.plans[0])
    assert song.mixture_vocals_nsdr_db == pytest.approx(nsdr(mixture - instrumental, mixture), abs=1e-3)


def test_metrics_tell_songs_times_and_where_each_session_ran(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        run(SETUP, cache, tmp_path, watcher=Watcher(stop_asked=lambda: True))
    run(SETUP, cache, tmp_path, resume=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    sessions = [line for line in lines if line["kind"] == "session"]
    assert [session["step"] for session in sessions] == [0, 1]
    assert {session["cache"] for session in sessions} == {str(cache.path.absolute())}
    assert sessions[0]["versions"]["torch"] == torch.__version__
    assert all("time" in line for line in lines if line["kind"] == "training")
    assert all(line["songs"][0]["num_examples"] == 3 for line in lines if line["kind"] == "validation")


def test_a_network_that_a_watcher_leaves_in_evaluation_mode_trains_on(cache: Cache, tmp_path: Path) -> None:
    def leave_evaluating(_: int, network: torch.nn.Module) -> None:
        network.eval()

    run(SETUP, cache, tmp_path / "alone")
    run(SETUP, cache, tmp_path / "watched", watcher=Watcher(on_network=leave_evaluating))
    alone, watched = weights(tmp_path / "alone"), weights(tmp_path / "watched")
    assert all(torch.equal(alone[name], watched[name]) for name in alone)


def test_what_a_run_without_a_checkpoint_left_behind_makes_room_for_another(cache: Cache, tmp_path: Path) -> None:
    for name in ("recipe.toml", "metrics.jsonl", "report.html", "tensorboard/events"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    run(with_training(num_steps=1), cache, tmp_path)
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "tensorboard").exists()
