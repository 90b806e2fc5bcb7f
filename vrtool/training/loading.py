"""Feeds batches to the loop, from worker processes that write them where the loop reads them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from vrtool.dataset.examples import TrainingBatches
from vrtool.processes import follow_parent, interrupts_held_back

PREFETCH_BATCHES = 4
"""Batches each worker keeps ready: enough to ride out a slow disk, few enough to fit into memory."""


def load_batches(
    batches: TrainingBatches, numbers: range, *, num_workers: int, pin_memory: bool
) -> Iterator[torch.Tensor]:
    """Yield the batches of these numbers in this order, whatever the number of workers.

    A batch of workers is to be used up before the next is asked for: its memory is written again.
    """
    if num_workers == 0:
        for number in numbers:
            yield batches[number].pin_memory() if pin_memory else batches[number]
        return
    # As many batches may be under way as all workers keep ready, while the loop holds one more.
    num_slots = num_workers * PREFETCH_BATCHES + 1
    slots = torch.empty(num_slots, batches.largest_size).share_memory_()  # type: ignore[no-untyped-call]
    loader = DataLoader(
        _BatchesInSlots(batches, slots, numbers.start),
        batch_size=None,  # an item is a whole batch already
        sampler=numbers,
        num_workers=num_workers,
        # Spawned: a fork would copy the locks of torch's thread pool in whatever state they are in.
        multiprocessing_context="spawn",
        worker_init_fn=_start_worker,
        prefetch_factor=PREFETCH_BATCHES,
        # The loader draws a seed for its workers, which need none; torch's own generator is part of a run's state.
        generator=torch.Generator(),
    )
    with interrupts_held_back():
        ready = iter(loader)
    for number, slot in zip(numbers, ready, strict=True):
        batch = batches.view(number, slots[slot])
        yield batch.pin_memory() if pin_memory else batch


class _BatchesInSlots(Dataset[int]):
    """Writes batches into slots of shared memory, round and round; an item is the number of the slot.

    Given as a tensor each, torch would move every batch to new shared memory, whose pages the system has to clear and
    map in both processes: measured, that takes three times as long as to make the batch.
    """

    def __init__(self, batches: TrainingBatches, slots: torch.Tensor, first: int) -> None:
        self._batches = batches
        self._slots = slots
        self._first = first

    def __getitem__(self, batch: int) -> int:
        slot = (batch - self._first) % len(self._slots)
        self._batches.write(batch, self._slots[slot].numpy())
        return slot


def _start_worker(_: int) -> None:
    follow_parent()
