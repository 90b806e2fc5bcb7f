"""`vrtool import-checkpoint`: the ancestor's published weights as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vrtool.cli.console import console
from vrtool.errors import InputError


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A .pth file of the ancestor: a plain state dict.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint to write, a .safetensors file.")],
    n_fft: Annotated[int | None, typer.Option(help="Only for a network without transformer blocks.")] = None,
    num_bands: Annotated[int | None, typer.Option(help="Only for a network without transformer blocks.")] = None,
) -> None:
    """Turn weights of the ancestor (vocal-remover-frame-transformer, 2022) into a checkpoint; no code in them runs."""
    from vrtool.model.ancestor import import_ancestor
    from vrtool.model.checkpoint import save_checkpoint

    if output.exists():
        raise InputError(f"{output} exists already; name another --output")
    checkpoint = import_ancestor(file, n_fft=n_fft, num_bands=num_bands)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(output, checkpoint)
    num_parameters = sum(tensor.numel() for tensor in checkpoint.weights.values())
    console.print(
        f"{output}: {num_parameters / 1e6:.1f} M parameters, {checkpoint.model}", soft_wrap=True, markup=False
    )
