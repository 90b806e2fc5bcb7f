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
    sample_rate: Annotated[int, typer.Option(help="Of the music it was trained on, in Hz.")] = 44100,
    hop_length: Annotated[int | None, typer.Option(help="In samples.", show_default="half of n_fft")] = None,
) -> None:
    """Turn weights of the ancestor (vocal-remover-frame-transformer, 2022) into a checkpoint; no code in them runs."""
    from vrtool.model.ancestor import import_ancestor
    from vrtool.model.checkpoint import save_checkpoint
    from vrtool.model.checkpoint_header import used_settings

    if output.exists():
        raise InputError(f"{output} exists already; name another --output")
    checkpoint = import_ancestor(file, n_fft=n_fft, num_bands=num_bands, sample_rate=sample_rate, hop_length=hop_length)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(output, checkpoint)
    num_parameters = sum(tensor.numel() for tensor in checkpoint.weights.values())
    settings = ", ".join(f"{name} {value}" for name, value in used_settings(checkpoint.model).items())
    stft = checkpoint.stft
    console.print(
        f"{output}: {num_parameters / 1e6:.1f} M parameters; {settings}; sample_rate {stft.sample_rate}, "
        f"hop_length {stft.hop_length}",
        soft_wrap=True,
        markup=False,
    )
