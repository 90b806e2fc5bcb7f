"""Tells a run whose memory has run out what to lower, in its own numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from vrtool.errors import JobError
from vrtool.model import Network
from vrtool.model.acceleration import has_bfloat16
from vrtool.training.config import TrainingConfig
from vrtool.training.run_folder import RunFolder

# Memory of a device has exceptions of its own only in part, and main memory has none: what else there is are words.
DEVICE_WORDS = ("MPS backend out of memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
MACHINE_WORDS = ("can't allocate memory", "not enough memory", "Cannot allocate memory")
SHARED_WORDS = ("unable to allocate shared memory", "Bus error")
KILLED_WORKER = re.compile(r"DataLoader worker \(pid.*?\) (exited unexpectedly|is killed by signal)")

Place = Literal["device", "machine", "shared", "worker"]


@contextmanager
def memory_watched(
    config: TrainingConfig, network: Network, device: torch.device, folder: RunFolder, *, step: Callable[[], int]
) -> Iterator[None]:
    """Make a JobError of memory that runs out in the block, naming what to lower; `step` tells how far it came."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        place = find_place(error)
        if place is None:
            raise
        newest = folder.newest_checkpoint
        way_on = f"--resume goes on from {newest}" if newest else "there is no checkpoint yet to go on from"
        raise JobError(
            f"step {step()}: {_happened(place, device)} with batches of {config.batch_size:,} crops of "
            f"{max(config.crop_lengths):,} frames; {_remedies(place, config, network, device)}; {way_on}"
        ) from error


def find_place(error: Exception) -> Place | None:
    """Return whose memory an error says has run out; "worker" if a worker was killed, None for other errors."""
    text = str(error)

    def says(*words: str) -> bool:
        return any(word in text for word in words)

    # A bus error kills a worker, too, but says more.
    if says(*SHARED_WORDS):
        return "shared"
    if KILLED_WORKER.search(text):
        return "worker"
    if isinstance(error, torch.OutOfMemoryError) or says(*DEVICE_WORDS):
        return "device"
    if isinstance(error, MemoryError) or says(*MACHINE_WORDS):
        return "machine"
    return None


def _happened(place: Place, device: torch.device) -> str:
    return {
        "device": f"the memory of {device} ran out",
        "machine": "the memory of this machine ran out",
        "shared": "the shared memory of this machine (often /dev/shm) ran out",
        "worker": "a process that makes batches was killed, as systems do when memory runs out,",
    }[place]


def _remedies(place: Place, config: TrainingConfig, network: Network, device: torch.device) -> str:
    """Return what to lower and what to set, as far as the recipe has not done so and the network allows it."""
    by_loading = place in ("shared", "worker") or (place == "machine" and config.num_loader_workers > 0)
    by_network = place == "device" or (place == "machine" and device.type == "cpu")
    lower, switch = [], []
    if by_loading:
        lower.append("training.num_loader_workers")
    if config.batch_size > 1:
        lower.append("training.batch_size (and raise accumulate_batches, so that a step sees as many examples)")
    if network.requires_frames is None:
        lower.append("training.crop_frames" + (" and crop_stages" if config.crop_stages else ""))
    can_recompute = type(network).recompute_activations is not Network.recompute_activations
    if by_network and can_recompute and not config.recompute_activations and not config.compile:
        switch.append("training.recompute_activations = true")
    if by_network and config.precision == "float32" and has_bfloat16(device):
        switch.append('training.precision = "bfloat16"')
    parts = ([f"lower {' or '.join(lower)}"] if lower else []) + ([f"set {' or '.join(switch)}"] if switch else [])
    return ", or ".join(parts) or "take a smaller network in [model]"
