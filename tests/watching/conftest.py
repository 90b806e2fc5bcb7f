"""A run and its cache: four instrumentals, four vocals and two pairs of three seconds, a part kept for validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.dataset.cache import Cache, open_cache
from vrtool.model import ModelConfig
from vrtool.preparation import PreparationReport
from vrtool.training.config import TrainingConfig
from vrtool.training.distributed import World
from vrtool.training.run_folder import RunFolder
from vrtool.training.setup import TrainingSetup
from vrtool.training.trainer import train
from vrtool.training.watcher import Watcher

FOREIGN_NAME = 'Tom & Jerry <script>alert(1)<script> "live"'
"""What a song may be called where file systems allow it."""

SETUP = TrainingSetup(
    recipe_text='[training]\nnum_steps = 4  # <i>"few"</i> & quick\n',
    model=ModelConfig(n_fft=256, channels=2, num_bands=2, feedforward_dim=16, num_encoders=1, num_decoders=0),
    augmentation=AugmentationConfig(),
    training=TrainingConfig(
        num_steps=4,
        batch_size=2,
        accumulate_batches=1,
        crop_frames=32,
        learning_rate=1e-2,
        warmup_steps=1,
        decay_steps=3,
        validate_every_steps=1,
        num_validation_examples=8,
        num_loader_workers=0,
    ),
)


@pytest.fixture(scope="session")
def foreign_name() -> str:
    """The name of the pair that is kept for validation."""
    return FOREIGN_NAME


@pytest.fixture(scope="session")
def watched_cache(
    tmp_path_factory: pytest.TempPathFactory,
    make_signal: Callable[..., FloatArray],
    write_sound: Callable[..., Path],
    run_prepare: Callable[..., PreparationReport],
    tiny_stft: StftSpec,
) -> Cache:
    """A cache whose validation half has a pair, an instrumental and a vocal track."""
    root = tmp_path_factory.mktemp("watched")
    for number in range(2):
        write_sound(root / f"instrumentals/music{number}.wav", make_signal(number, seconds=3.0))
        write_sound(root / f"vocals/voice{number}.wav", make_signal(10 + number, seconds=3.0))
    for number, name in enumerate(("pair", FOREIGN_NAME)):
        write_sound(root / "pairs" / name / "instrumental.wav", make_signal(20 + number, seconds=3.0))
        write_sound(root / "pairs" / name / "vocals.wav", make_signal(30 + number, seconds=3.0))
    kept = root / "kept.txt"
    kept.write_text(f"music0\nvoice0\n{FOREIGN_NAME}\n", encoding="utf-8")
    run_prepare(
        root / "cache",
        instrumentals=[root / "instrumentals"],
        vocals=[root / "vocals"],
        pairs=[root / "pairs"],
        stft=tiny_stft,
        validation=str(kept),
    )
    return open_cache(root / "cache")


@pytest.fixture(scope="session")
def train_watched(watched_cache: Cache) -> Callable[..., RunFolder]:
    """`train_watched(path, watcher)` trains four steps with four validations."""

    def run(path: Path, watcher: Watcher | None = None) -> RunFolder:
        folder = RunFolder(path=path)
        train(SETUP, watched_cache, folder, world=World(), watcher=watcher)
        return folder

    return run


@pytest.fixture(scope="session")
def watched_run(train_watched: Callable[..., RunFolder], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of four steps on `watched_cache`. Not to be changed."""
    return train_watched(tmp_path_factory.mktemp("runs") / "my <run>")
