"""Where and with what a run computes: one line of its metrics each time that it is started or resumed."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("vrtool", "torch", "numpy", "scipy", "h5py", "numba", "safetensors", "soundfile", "soxr", "av")
"""What a result may depend on."""


def describe_session(step: int, *, cache: Path, device: torch.device, num_processes: int = 1) -> dict[str, Any]:
    """Return what a run that starts or goes on after `step` steps is to remember of its surroundings."""
    return {
        "kind": "session",
        "step": step,
        "time": timestamp(),
        "cache": str(cache.absolute()),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "processes": num_processes,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), **_package_versions()},
    }


def timestamp() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # run from its sources, vrtool need not be installed
            versions[name] = "not installed as a package"
    return versions
