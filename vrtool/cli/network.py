"""What the commands that run a network share: loading it, and the word on where it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vrtool.cli.console import errors
from vrtool.cli.options import PrecisionName

if TYPE_CHECKING:
    from vrtool.model.acceleration import Precision
    from vrtool.model.device import PickedDevice
    from vrtool.separation.combining import Refinement
    from vrtool.separation.separator import Separator


def load_separator(
    models: Sequence[Path],
    device: str,
    precision: PrecisionName,
    *,
    refinement: Refinement | None = None,
) -> Separator:
    """Return the separator of runs or checkpoints, and say on standard error where it runs, and in what precision."""
    from vrtool.model.acceleration import pick_precision
    from vrtool.model.device import pick_device
    from vrtool.model.memory import keep_freed_memory
    from vrtool.separation.separator import Separator

    keep_freed_memory()
    picked = pick_precision(precision, pick_device(device).device)
    separator = Separator.from_checkpoint(
        models,
        device=device,
        precision=picked.precision,
        refinement=refinement,
    )
    print_device(separator.device, picked.precision, why=picked.reason)
    return separator


def print_device(picked: PickedDevice, precision: Precision, *, why: str | None = None) -> None:
    """Say where a network runs and why, and if it has not what was asked for there, on standard error.

    With `why`, a few words, say also what it computes in.
    """
    from vrtool.model.acceleration import has_bfloat16

    computes_in = "" if why is None else f"; {precision}, {why}"
    errors.print(f"device {picked.device}: {picked.reason}{computes_in}", markup=False, soft_wrap=True)
    if precision == "bfloat16" and not has_bfloat16(picked.device):
        errors.print("bfloat16 has no instructions of its own there: float32 would be faster", markup=False)
    if precision == "float16" and picked.device.type == "cpu":
        errors.print("float16 is for GPUs: on a CPU float32 is faster", markup=False)
