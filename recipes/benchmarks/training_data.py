"""What the kernel's and the loader's benchmarks read: a cache of one's own, or a little made-up one."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import Waveform, write_audio
from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.dataset.cache import Cache, open_cache
from vrtool.dataset.drawer import CropSchedule, PlanDrawer
from vrtool.dataset.examples import ExampleBuilder
from vrtool.dataset.pools import make_pools
from vrtool.preparation import Library, PreparationSettings, plan_preparation, prepare
from vrtool.preparation.executors import process_pool

CROP_FRAMES = 1024
NUM_TRACKS, TRACK_SECONDS = 6, 60


@contextmanager
def cache_from_command_line(description: str) -> Iterator[Cache]:
    """Give the cache that `--cache` names, or a made-up one."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="a cache with instrumentals and vocals; made up if left out")
    path = parser.parse_args().cache
    if path is not None:
        yield open_cache(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield _made_up_cache(Path(folder))


def default_drawer(cache: Cache) -> PlanDrawer:
    """Return the drawer of plans with the default augmentation, over instrumentals and vocals: no pairs."""
    tracks = [track for track in cache.tracks if track.header.kind != "pair"]
    return PlanDrawer(
        config=AugmentationConfig(), pools=make_pools(tracks, {}), crops=CropSchedule(num_frames=CROP_FRAMES), seed=0
    )


def builder(cache: Cache) -> ExampleBuilder:
    """Return the builder of a cache's examples."""
    return ExampleBuilder(tracks={track.key: track for track in cache.tracks}, stft=cache.stft)


def _made_up_cache(folder: Path) -> Cache:
    """Prepare noise whose level goes up and down, as music's does."""
    rng = np.random.default_rng(0)
    time = np.arange(TRACK_SECONDS * StftSpec().sample_rate) / StftSpec().sample_rate
    for kind in ("instrumentals", "vocals"):
        (folder / kind).mkdir()
        for number in range(NUM_TRACKS):
            level = 0.1 * (1.0 + 0.9 * np.sin(2 * np.pi * time * rng.uniform(0.1, 1.0)))
            samples = (level * rng.normal(size=(2, time.size))).astype(np.float32)
            waveform = Waveform(samples=samples, sample_rate=StftSpec().sample_rate)
            write_audio(folder / kind / f"{number}.wav", waveform, subtype="16")
    libraries = [
        Library(kind="instrumental", root=folder / "instrumentals"),
        Library(kind="vocal", root=folder / "vocals"),
    ]
    settings = PreparationSettings(output=folder / "cache", stft=StftSpec(), validation="0")
    with process_pool(1) as pool:
        return prepare(plan_preparation(libraries, settings), pool).cache
