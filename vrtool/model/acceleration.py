"""Ways to compute a network faster that are not part of what it is: precision and compilation."""

from __future__ import annotations

import platform
import shutil
import sys
from contextlib import AbstractContextManager
from typing import Literal

import torch

from vrtool.errors import InputError
from vrtool.model.network import Network

Precision = Literal["float32", "bfloat16", "float16"]


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
