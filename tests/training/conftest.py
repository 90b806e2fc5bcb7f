"""For tests of whole runs: a cache with tracks kept for validation, a small recipe and what trains it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.dataset.cache import Cache, open_cache
from vrtool.model import ModelConfig
from vrtool.training.config import TrainingConfig
from vrtool.training.distributed import World
from vrtool.training.losses import TrainingLoss, Truth
from vrtool.training.run_folder import RunFolder
from vrtool.training.setup import TrainingSetup
from vrtool.training.trainer import Resume, train

SETUP = TrainingSetup(
    recipe_text="[training]\n",
    # Batch norms and dropout, and by far the fastest that there is.
    model=ModelConfig(architecture="unet", n_fft=256, channels=1, dropout=0.1),
    augmentation=AugmentationConfig(),
    training=TrainingConfig(
        num_steps=6,
        batch_size=2,
        accumulate_batches=2,
        crop_frames=16,
        learning_rate=1e-2,
        warmup_steps=2,
        decay_steps=10,
        ema_decay=0.7,
        validate_every_steps=2,
        checkpoint_every_steps=1,
        num_validation_examples=3,
        num_loader_workers=0,
    ),
)


@pytest.fixture(scope="session")
def divided_cache(
    small_library: Path, tiny_stft: StftSpec, run_prepare: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Cache:
    """The cache of `small_library`, one track of each kind kept for validation. Not to be changed."""
    output = tmp_path_factory.mktemp("divided") / "cache"
    libraries = {kind: [small_library / kind] for kind in ("instrumentals", "vocals", "pairs")}
    run_prepare(output, stft=tiny_stft, validation="0.1", **libraries)
    return open_cache(output)


@pytest.fixture
def make_setup() -> Callable[..., TrainingSetup]:
    """`make_setup(num_steps=9, ...)` gives a recipe of six steps with averaged weights, changed in [training]."""
    return lambda **changes: replace(SETUP, training=replace(SETUP.training, **changes))


@pytest.fixture
def train_run(divided_cache: Cache) -> Callable[..., int]:
    """`train_run(setup, path, resume=, initial=, watcher=)` trains on `divided_cache` and returns the last step."""

    def run(setup: TrainingSetup, path: Path, *, resume: bool = False, **options: Any) -> int:
        how: Resume = "always" if resume else "never"
        return train(setup, divided_cache, RunFolder(path=path), world=World(), resume=how, **options)

    return run


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`poison(2, 5)` makes the losses of passes 2 and 5, counted from now and from 0, not a number; `poison()` none."""
    compute = TrainingLoss.__call__

    def spoil(*passes: int) -> None:
        counted = itertools.count()

        def spoiled(loss: TrainingLoss, mask: torch.Tensor, truth: Truth) -> tuple[torch.Tensor, torch.Tensor]:
            total, values = compute(loss, mask, truth)
            return total * (float("nan") if next(counted) in passes else 1.0), values

        monkeypatch.setattr(TrainingLoss, "__call__", spoiled)

    return spoil
