"""Ways to compute a network faster that are not part of what it is: precision and compilation."""

from __future__ import annotations

import platform
import shutil
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from vrtool.errors import InputError
from vrtool.model.network import Network

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PickedPrecision:
    """What a network computes in, and a few words on why, to be read after a comma."""

    precision: Precision
    reason: str


def pick_precision(name: Precision | Literal["auto"], device: torch.device) -> PickedPrecision:
    """Return the precision called `name`; "auto" is bfloat16 on CUDA GPUs with instructions for it, else float32.

    Not on CPUs: those without the instructions emulate them, in seven times the time, and none with them was measured.
    """
    if name != "auto":
        return PickedPrecision(precision=name, reason="asked for")
    if device.type == "cuda" and has_bfloat16(device):
        return PickedPrecision(precision="bfloat16", reason="which this GPU has instructions for")
    if device.type == "cuda":
        return PickedPrecision(precision="float32", reason="this GPU has no instructions for bfloat16")
    return PickedPrecision(precision="float32", reason="bfloat16 is for GPUs that have it")


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which a network computes its products in `precision`; weights stay in float32."""
    return torch.autocast(device.type, dtype=getattr(torch, precision), enabled=precision != "float32")


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether `device` has instructions for bfloat16, without which it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64"):
        # oneDNN takes bfloat16 from AVX-512 on, but where it has to emulate the products it is the slower for it.
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def compile_network(network: Network) -> None:
    """Let torch compile the network when it runs next, which takes up to minutes; InputError without a compiler."""
    known = ("cl", "clang", "gcc") if sys.platform == "win32" else ("g++", "clang++", "c++")
    if not any(shutil.which(name) for name in known):
        raise InputError(f"compiling a network takes a compiler, one of {', '.join(known)}, found none; leave it out")
    network.compile()
