"""Feeds batches to the loop, from worker processes, and tells how long the loop had to wait for them."""

from __future__ import annotations

import signal

import torch
from torch.utils.data import DataLoader

from vrtool.dataset.examples import TrainingBatches

PREFETCH_BATCHES = 4
"""Batches each worker keeps ready: enough to ride out a slow disk, few enough to fit into memory."""


def batch_loader(
    batches: TrainingBatches, numbers: range, *, num_workers: int, pin_memory: bool
) -> DataLoader[torch.Tensor]:
    """Return a loader that gives the batches of these numbers in this order, whatever the number of workers."""
    return DataLoader(
        batches,
        batch_size=None,  # an item is a whole batch already
        sampler=numbers,
        num_workers=num_workers,
        # Spawned: a fork would copy the locks of torch's thread pool in whatever state they are in.
        multiprocessing_context="spawn" if num_workers else None,
        worker_init_fn=_start_worker if num_workers else None,
        prefetch_factor=PREFETCH_BATCHES if num_workers else None,
        pin_memory=pin_memory,
        # The loader draws a seed for its workers, which need none; torch's own generator is part of a run's state.
        generator=torch.Generator(),
    )


def _start_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group; the parent decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
