"""Feeds batches to the loop, from worker processes that write them where the loop reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from vrtool.dataset.examples import TrainingBatches
from vrtool.processes import follow_parent, interrupts_held_back
from vrtool.training.stopwatch import Stopwatch

PREFETCH_BATCHES = 4
"""Batches each worker keeps ready: enough to ride out a slow disk, few enough to fit into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What it took a process to make a batch: seconds, and how many of them it was computing, not waiting."""

    seconds: float
    computing_seconds: float


def load_batches(
    batches: TrainingBatches,
    numbers: Sequence[int],
    *,
    num_workers: int,
    pin_memory: bool,
    on_made: Callable[[Making], None] = lambda _: None,
) -> Generator[torch.Tensor]:
    """Yield the batches of these numbers in this order, whatever the number of workers.

    A batch of workers is to be used up before the next is asked for: its memory is written again. `on_made` hears of
    each batch before it comes.
    """
    if num_workers == 0:
        for number in numbers:
            memory = torch.empty(batches.largest_size)
            on_made(_made(batches, number, memory))
            batch = batches.view(number, memory)
            yield batch.pin_memory() if pin_memory else batch
        return
    # As many batches may be under way as all workers keep ready, while the loop holds one more.
    num_slots = num_workers * PREFETCH_BATCHES + 1
    slots = torch.empty(num_slots, batches.largest_size).share_memory_()  # type: ignore[no-untyped-call]
    loader = DataLoader(
        _BatchesInSlots(batches, slots, numbers),
        batch_size=None,  # an item is a whole batch already
        sampler=range(len(numbers)),
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
    for number, (slot, making) in zip(numbers, ready, strict=True):
        on_made(making)
        batch = batches.view(number, slots[slot])
        yield batch.pin_memory() if pin_memory else batch


def _made(batches: TrainingBatches, number: int, memory: torch.Tensor) -> Making:
    """Write a batch to memory (number,) and tell what it took."""
    started, computing_since = time.perf_counter(), time.thread_time()
    batches.write(number, memory.numpy())
    return Making(seconds=time.perf_counter() - started, computing_seconds=time.thread_time() - computing_since)


class _BatchesInSlots(Dataset[tuple[int, Making]]):
    """Writes batches into slots of shared memory, round and round; an item is the number of the slot.

    Given as a tensor each, torch would move every batch to new shared memory, whose pages the system has to clear and
    map in both processes: measured, that takes three times as long as to make the batch.
    """

    def __init__(self, batches: TrainingBatches, slots: torch.Tensor, numbers: Sequence[int]) -> None:
        self._batches = batches
        self._slots = slots
        self._numbers = numbers

    def __getitem__(self, place: int) -> tuple[int, Making]:
        slot = place % len(self._slots)
        return slot, _made(self._batches, self._numbers[place], self._slots[slot])


def _start_worker(_: int) -> None:
    follow_parent()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBatches(Sequence[int]):
    """The numbers of a process's batches from one step to before another, of the `per_step` that each step has."""

    first_step: int
    end_step: int
    per_step: int
    own: range
    """Which of a step's batches, counted from 0, are this process's."""

    def __len__(self) -> int:
        return (self.end_step - self.first_step) * len(self.own)

    def __getitem__(self, place: int) -> int:  # type: ignore[override]  # slices of it are of no use
        if not 0 <= place < len(self):
            raise IndexError(place)
        step, which = divmod(place, len(self.own))
        return (self.first_step + step) * self.per_step + self.own[which]


class DeviceBatches:
    """Batches on a device, each wait and copy timed; a GPU is handed the next before it is done with the one before."""

    def __init__(self, batches: Iterator[torch.Tensor], device: torch.device, stopwatch: Stopwatch) -> None:
        self._batches, self._device, self._stopwatch = batches, device, stopwatch
        self._ahead: torch.Tensor | None = None

    def take(self) -> torch.Tensor:
        """Return the next batch; one that came from a worker's memory is to be used up before the next call."""
        ahead, self._ahead = self._ahead, None
        batch = self._next() if ahead is None else ahead
        assert batch is not None, "a run asks for no more batches than it has steps"
        return batch

    def prefetch(self) -> None:
        """Start copying the next batch to a GPU, which does so when it is done with what it was given before.

        Elsewhere nothing happens: what is copied at once gains nothing by it.
        """
        if self._device.type == "cuda" and self._ahead is None:
            self._ahead = self._next()

    def _next(self) -> torch.Tensor | None:
        self._stopwatch.enter("data")
        batch = next(self._batches, None)
        self._stopwatch.enter("copy")
        # Only pinned memory, which nobody writes again, can be left to a copy that goes on by itself.
        return None if batch is None else batch.to(self._device, non_blocking=self._device.type == "cuda")
