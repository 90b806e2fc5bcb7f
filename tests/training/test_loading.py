"""Batches from worker processes, against the same batches made here."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.dataset.cache import Cache
from vrtool.dataset.drawer import CropSchedule, PlanDrawer
from vrtool.dataset.examples import Content, ExampleBuilder, TrainingBatches
from vrtool.dataset.pools import make_pools
from vrtool.errors import CacheError
from vrtool.training.loading import PREFETCH_BATCHES, Making, StepBatches, load_batches

CROPS = CropSchedule(num_frames=40, stages=((2, 12), (1, 56)))


def batches_of(cache: Cache, content: Content = "magnitudes") -> TrainingBatches:
    """Return batches of two examples, five an epoch; crops have 12, 12, 56 and then 40 frames."""
    drawer = PlanDrawer(config=AugmentationConfig(), pools=make_pools(cache.tracks, {}), crops=CROPS)
    builder = ExampleBuilder(tracks={track.key: track for track in cache.tracks}, stft=cache.stft)
    return TrainingBatches(drawer, builder, batch_size=2, epoch_examples=10, content=content)


@pytest.mark.parametrize(("num_workers", "content"), [(0, "magnitudes"), (2, "magnitudes"), (2, "spectrograms")])
def test_batches_come_in_order_and_stay_until_the_next_is_asked_for(
    small_cache: Cache, num_workers: int, content: Content
) -> None:
    batches = batches_of(small_cache, content)
    # From the middle of an epoch, as after resuming; more of them than workers have slots for.
    numbers = range(3, 3 + 3 * (num_workers * PREFETCH_BATCHES + 1))
    state = torch.get_rng_state()
    made: list[Making] = []
    loaded = load_batches(batches, numbers, num_workers=num_workers, pin_memory=False, on_made=made.append)
    for number, batch in zip(numbers, loaded, strict=True):
        time.sleep(0.05 if num_workers else 0.0)  # the workers come as far as they may
        assert batch.shape[-1] == CROPS.at(number // 5)
        assert torch.equal(batch, batches[number])
    assert torch.equal(torch.get_rng_state(), state)
    assert len(made) == len(numbers)
    assert all(0.0 <= making.computing_seconds <= making.seconds + 0.01 for making in made)
    assert sum(making.computing_seconds for making in made) > 0.0


def test_what_a_worker_finds_wrong_is_raised_here(small_cache: Cache, tmp_path: Path) -> None:
    paths = {track.key: tmp_path / f"{number}.h5" for number, track in enumerate(small_cache.tracks)}
    for track in small_cache.tracks:
        content = bytearray(track.path.read_bytes())
        for stored in track.header.storage.values():
            rows = track.header.num_frames * track.header.num_channels
            for row in range(rows):
                start = stored.offset_bytes + row * track.header.row_type.itemsize
                content[start : start + 4] = np.float32(np.nan).tobytes()
        paths[track.key].write_bytes(content)
    tracks = tuple(replace(track, path=paths[track.key]) for track in small_cache.tracks)
    loaded = load_batches(batches_of(replace(small_cache, tracks=tracks)), range(2), num_workers=1, pin_memory=False)
    with pytest.raises(CacheError, match="holds numbers that are no audio"):
        next(loaded)


def test_workers_end_when_no_more_batches_are_wanted(small_cache: Cache) -> None:
    before = set(multiprocessing.active_children())
    loaded = load_batches(batches_of(small_cache), range(1000), num_workers=2, pin_memory=False)
    next(loaded)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    loaded.close()
    for worker in workers:
        worker.join(timeout=30)
        assert worker.exitcode is not None


def test_processes_load_the_batches_of_their_own_passes_and_nobody_elses() -> None:
    shares = [range(2), range(2, 3)]
    numbers = [StepBatches(first_step=4, end_step=7, per_step=3, own=own) for own in shares]
    assert [list(of_process) for of_process in numbers] == [[12, 13, 15, 16, 18, 19], [14, 17, 20]]
    with pytest.raises(IndexError):
        numbers[1][3]
