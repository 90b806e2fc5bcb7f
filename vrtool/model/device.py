"""Where a network runs: the device a person named, or the best there is, and why it was taken."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from vrtool.errors import InputError

DEVICE_NAMES = "auto, cpu, cuda, cuda:N or mps"
"""What a device may be called, for help texts and messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PickedDevice:
    """A device that is there, and a few words on why it was taken, to be read after a colon."""

    device: torch.device
    reason: str


def pick_device(name: str = "auto", *, gpu: int | None = None) -> PickedDevice:
    """Return the device called `name`: "auto" is the first CUDA GPU, else Apple's mps, else the CPU.

    `gpu` is for one of several processes that take a CUDA GPU each: the number of its own. Only "auto" falls back.
    Raises InputError if the device asked for is missing or the name is unknown: a job of hours must not land on the CPU
    without a word.
    """
    if name == "auto":
        return _best_device(gpu or 0)
    if name == "cpu":
        return PickedDevice(device=torch.device("cpu"), reason="asked for")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise InputError(f"--device mps: this torch ({torch.__version__}) finds no Apple GPU; {_REMEDY}")
        return PickedDevice(device=torch.device("mps"), reason="asked for")
    if match := re.fullmatch(r"cuda(?::([0-9]+))?", name):
        if match[1] and gpu is not None:
            raise InputError(f"--device {name}: processes take a GPU each, say --device cuda for all of them")
        return _cuda_device(int(match[1] or gpu or 0), name)
    raise InputError(f"--device {name}: expected {DEVICE_NAMES}")


_REMEDY = "use --device cpu, or --device auto for the best there is"


def _best_device(gpu: int) -> PickedDevice:
    if torch.cuda.is_available():
        found = _cuda_device(gpu, "auto")
        return PickedDevice(device=found.device, reason=f"{torch.cuda.get_device_name(gpu)} found")
    if torch.backends.mps.is_available():
        return PickedDevice(device=torch.device("mps"), reason="no CUDA GPU, an Apple GPU found")
    # The commonest surprise is a torch installed without CUDA on a machine with a GPU, so the reason tells them apart.
    if torch.version.cuda is None and torch.version.hip is None:
        return PickedDevice(
            device=torch.device("cpu"), reason=f"torch {torch.__version__} is built without GPU support"
        )
    return PickedDevice(device=torch.device("cpu"), reason="torch finds no GPU")


def _cuda_device(index: int, name: str) -> PickedDevice:
    if not torch.cuda.is_available():
        raise InputError(f"--device {name}: this torch ({torch.__version__}) finds no CUDA GPU; {_REMEDY}")
    num_devices = torch.cuda.device_count()
    if index >= num_devices:
        raise InputError(
            f"--device {name}: found no cuda:{index}, there are {num_devices} CUDA GPUs, cuda:0 to "
            f"cuda:{num_devices - 1}; name one of them, or start no more processes than that"
        )
    return PickedDevice(device=torch.device("cuda", index), reason="asked for")
