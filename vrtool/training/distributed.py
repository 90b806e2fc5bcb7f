"""Several processes that train one network together: who they are, and what they tell each other.

`torchrun` starts them and says who is who in environment variables. They share the passes of a step and the examples of
a validation, while what is read and written in the run's folder is the main process's alone: the folder need not be
seen by other machines, the cache must.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from vrtool.errors import (
    InputError,
    InterruptedRunError,
    JobError,
    RecipeError,
    SaidElsewhereError,
    VrtoolError,
)
from vrtool.model.checkpoint import Checkpoint
from vrtool.training.meeting import LaunchNotes, meet

T = TypeVar("T")
CPU = torch.device("cpu")
MEETING_PATIENCE = timedelta(minutes=5)
"""How long a process waits for the others to start."""
PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others later on: longer than a checkpoint takes on a slow disk, or a compiler."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """What `World.share` sends where there is nothing else to send."""

    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes of a run, of which this is number `rank`; alone unless torchrun started more.

    What a method promises holds if all processes call it, in the same order; `device` is this one's.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    notes: LaunchNotes = field(default_factory=LaunchNotes)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that reads and writes the run's folder, and shows how it goes."""
        return self.rank == 0

    def own_share(self, count: int) -> range:
        """Return which of `count` things are this process's: consecutive ones, about as many as each other's."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of all processes' `values`, which lie on `device` and are overwritten with it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the largest of all processes' values at each place."""
        if self.size == 1:
            return list(values)
        # On the CPU, whose sums do not wait for what a GPU still has to do.
        found = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return [float(value) for value in found]

    def gather(self, value: T) -> list[T]:
        """Return every process's value, by rank; it has to be picklable."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share(self, make: Callable[[], T]) -> T:
        """Return to all processes what `make` returns to the main one.

        A VrtoolError that it meets is raised there; the others raise SaidElsewhereError.
        """
        if self.size == 1:
            return make()
        outcome: list[Any] = [None]
        if self.is_main:
            try:
                outcome = [make()]
            except VrtoolError as error:
                dist.broadcast_object_list([_Failure(error.exit_code)])
                raise
        dist.broadcast_object_list(outcome)
        if isinstance(outcome[0], _Failure):
            raise SaidElsewhereError(outcome[0].exit_code)
        made: T = outcome[0]
        return made

    def share_checkpoint(self, load: Callable[[], tuple[Path, Checkpoint] | None]) -> tuple[Path, Checkpoint] | None:
        """Do what `share` does for a checkpoint and where it is from, or for none, tensor by tensor."""
        if self.size == 1:
            return load()
        loaded: list[tuple[Path, Checkpoint] | None] = []

        def outline() -> tuple[Path, Checkpoint] | None:
            loaded.append(load())
            return loaded[0] and (loaded[0][0], _without_numbers(loaded[0][1]))

        found = self.share(outline)
        if found is None:
            return None
        path, checkpoint = found
        source = loaded[0][1] if loaded and loaded[0] else checkpoint
        weights = self._send(source.weights, checkpoint.weights)
        return path, replace(
            checkpoint, weights=weights, training_state=self._send(source.training_state, checkpoint.training_state)
        )

    def _send(self, tensors: Mapping[str, Tensor], outlines: Mapping[str, Tensor]) -> dict[str, Tensor]:
        received = {}
        for name, outline in outlines.items():
            # Numbers travel in the order of memory, which is that of the indices on both sides.
            tensor = torch.empty(outline.shape, dtype=outline.dtype, device=self.device)
            if self.is_main:
                tensor.copy_(tensors[name])
            dist.broadcast(tensor, 0)
            received[name] = tensor.cpu()
        return received

    def require_same(self, facts: Sequence[object], what: str) -> None:
        """Raise InputError unless all processes have the same facts, which are called `what` then."""
        digests = self.gather(hashlib.sha256(repr(facts).encode()).hexdigest())
        others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
        if others:
            raise InputError(
                f"process {others[0]} of {self.size} has another {what} than process 0; give all of them the same"
            )


def require_fair_shares(world: World, num_passes: int) -> None:
    """Raise RecipeError if a step has fewer passes than there are processes to do them."""
    if num_passes < world.size:
        raise RecipeError(
            f"[training] accumulate_batches = {num_passes} passes of a step cannot be shared by {world.size} "
            f"processes; set it to {world.size} or more, and batch_size to the examples of a step divided by it"
        )


def _without_numbers(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose tensors have shapes and types alone."""
    weights, state = (
        {name: tensor.to("meta") for name, tensor in tensors.items()}
        for tensors in (checkpoint.weights, checkpoint.training_state)
    )
    return replace(checkpoint, weights=weights, training_state=state)


def own_gpu() -> int | None:
    """Return the number of the GPU that is this process's, None if it has no others beside it."""
    return int(os.environ.get("LOCAL_RANK", "0")) if local_size() > 1 else None


def local_size() -> int:
    """Return how many processes of the run this machine has."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """Join the processes that torchrun started, to train on `device`; a process that nobody started is alone.

    Raises JobError if the others do not come, or are lost while the block runs, and InputError if their devices do not
    go together. Where torchrun starts processes again though their run is over, SaidElsewhereError ends them at once.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield World(device=device)
        return
    rank = int(os.environ["RANK"])
    try:
        world = _join(device)
        try:
            yield world
        except VrtoolError as error:
            _conclude(world, error)
            raise
        # Not where something went wrong: it might wait for processes that are gone.
        dist.destroy_process_group()
    except RuntimeError as error:
        if not _is_about_others(error):
            raise
        raise JobError(
            f"process {rank} has lost the others ({str(error).partition(chr(10))[0]}); they or their machines say why; "
            "torchrun --max-restarts starts them again, or go on with the same command and --auto-resume"
        ) from error


def _join(device: torch.device) -> World:
    """Return the world of the processes of now, once all are there."""
    store, rank, size = next(rendezvous("env://", timeout=MEETING_PATIENCE))
    notes = LaunchNotes(store)
    if notes.verdict is not None:
        raise SaidElsewhereError(notes.verdict)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    own = PrefixStore(meet(store, rank, size, patience=MEETING_PATIENCE), store)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=PATIENCE)
    world = World(rank=rank, size=size, device=device, notes=notes)
    kinds = world.gather(device.type)
    if kinds != [kinds[0]] * size or kinds[0] not in ("cpu", "cuda"):
        raise InputError(
            f"processes that train together need devices of one kind, cpu or cuda, found {', '.join(kinds)}; say which "
            "with --device"
        )
    return world


def _conclude(world: World, error: VrtoolError) -> None:
    """Leave word of how the run ended, and let the message of a process that is not the main one say whose it is.

    Asked to stop, all processes say the same, and the main one is enough.
    """
    if isinstance(error, SaidElsewhereError):
        return
    world.notes.say_over(error.exit_code)
    if world.is_main:
        return
    if isinstance(error, InterruptedRunError):
        raise SaidElsewhereError(error.exit_code) from error
    error.args = (f"process {world.rank}: {error}",)


def _is_about_others(error: RuntimeError) -> bool:
    """Tell whether torch means that the other processes cannot be reached, for which gloo has nothing but words."""
    if isinstance(error, (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)):
        return True
    return any(words in str(error) for words in ("gloo", "Gloo", "Connection closed by peer", "Connection reset"))
