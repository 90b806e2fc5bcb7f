"""`vrtool train --replay`: a step that a run skipped, made again and looked at, example by example."""

from __future__ import annotations

from math import log10
from pathlib import Path
from typing import TYPE_CHECKING

from vrtool.cli.console import console, errors
from vrtool.cli.network import print_device
from vrtool.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from vrtool.audio.spectrogram import StftSpec
    from vrtool.dataset.cache import Cache
    from vrtool.dataset.plan import Layer
    from vrtool.training.bad_steps import BadExample, BadStep
    from vrtool.training.config import TrainingConfig
    from vrtool.training.replay import Outcome, Rebuilt


def replay_step(file: Path, cache: Path | None, output: Path | None, device: str) -> None:
    """Show what a bad step was made of and what its network makes of it; write its batches to `output` if given."""
    from vrtool.model.device import pick_device
    from vrtool.recipe import parse_recipe
    from vrtool.training.bad_steps import read_bad_step
    from vrtool.training.replay import open_cache_of, rebuild, require_same_bytes, write_batches

    if output is not None and output.exists():
        raise InputError(f"{output} is there already; name another file for the batches with --output")
    bad = read_bad_step(file)
    config = parse_recipe(bad.recipe, origin=f"{file}, recipe").training
    picked = pick_device(device)
    data = open_cache_of(bad, cache)
    _say(f"step {bad.step:,}, {bad.time}: {bad.reason}; learning rate {bad.learning_rate:.3g}, {bad.precision}")
    batches = []
    for batch in rebuild(bad, data):
        batches.append(batch)
        _show_batch(batch, data.stft)
    _show_sources(bad)
    if output is not None:
        write_batches(output, bad, batches)
        _say(f"{output}: mixture and instrumental of each batch")
    print_device(picked, config.precision)
    _try_examples(file, bad, batches, config, data, str(picked.device))
    require_same_bytes(bad, data, [batch.recorded.number for batch in batches if not batch.is_same])


def _say(sentence: str) -> None:
    console.print(sentence, soft_wrap=True, markup=False)


def _show_batch(batch: Rebuilt, stft: StftSpec) -> None:
    bytes_are = "the same bytes as in the run" if batch.is_same else "other bytes than in the run"
    loss = "not known" if batch.recorded.loss is None else f"{batch.recorded.loss:.6g}"
    _say(f"\nbatch {batch.recorded.number:,}: {bytes_are}, its loss was {loss}")
    for place, example in enumerate(batch.recorded.examples):
        tensor = batch.tensor[:, place]
        _say(
            f"\nexample {example.number:,} (epoch {example.epoch:,}, index {example.index:,}): "
            f"{example.plan.num_frames:,} frames, largest magnitude {float(tensor.abs().max()):.6g}, {_finite(tensor)}"
        )
        console.print(_layer_table(example, stft))


def _show_sources(bad: BadStep) -> None:
    """Name the files behind each track: apart from the tables, where paths would be cut to pieces."""
    _say("\nsource files")
    for key, origin in bad.tracks.items():
        for role, paths in origin.sources.items():
            _say(f"{key}, {role}: {', '.join(paths)}")


def _finite(tensor: Tensor) -> str:
    import torch

    num_bad = int((~torch.isfinite(tensor)).sum())
    return f"{num_bad:,} numbers NOT FINITE" if num_bad else "all finite"


def _layer_table(example: BadExample, stft: StftSpec) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("track", overflow="fold")
    # Gains are those in the mixture and in the instrumental. All fits into 80 columns.
    for heading in ("role", "from", "mix dB", "instr. dB", "EQ"):
        table.add_column(heading)
    plan = example.plan
    for layer in plan.layers:
        table.add_row(*_layer_cells(layer, stft))
    if plan.mixup is not None:
        table.add_row(f"[dim]blended with, its share {1.0 - plan.mixup_weight:.4g}:[/]")
        for layer in plan.mixup.layers:
            table.add_row(*_layer_cells(layer, stft))
    return table


def _layer_cells(layer: Layer, stft: StftSpec) -> list[str]:
    from rich.markup import escape

    seconds = layer.offset_frames * stft.hop_seconds
    minutes, rest = divmod(seconds, 60.0)
    place = f"\nplaced at {layer.position_frames:,}" if layer.position_frames else ""
    return [
        escape(layer.track),
        layer.role,
        f"{int(minutes)}:{rest:06.3f}\nframe {layer.offset_frames:,}{place}",
        _decibels(layer.mixture_gains),
        _decibels(layer.instrumental_gains),
        "yes" if layer.equaliser_db else "no",
    ]


def _decibels(gains: tuple[float, float]) -> str:
    """Return the gains of left and right, once if they are the same; inv. stands for a negative one, – for none."""
    words = ["–" if gain == 0.0 else f"{20.0 * log10(abs(gain)):+.2f}{' inv.' * (gain < 0.0)}" for gain in gains]
    return words[0] if words[0] == words[1] else "\n".join(words)


def _try_examples(
    file: Path, bad: BadStep, batches: list[Rebuilt], config: TrainingConfig, data: Cache, device: str
) -> None:
    """Run the examples one by one through the run's network, if it has one from before the step, and show losses."""
    import torch

    from vrtool.dataset.header import check_same_stft
    from vrtool.training.replay import Trial, find_network
    from vrtool.training.run_folder import RunFolder

    folder = RunFolder(path=file.absolute().parent.parent)
    found = find_network(folder, bad.step, tell=lambda sentence: errors.print(sentence, soft_wrap=True, markup=False))
    if found is None:
        _say(f"\n{folder.path} has no checkpoint from before step {bad.step}: the examples were tried on no network")
        return
    path, checkpoint = found
    check_same_stft(data.stft, checkpoint.stft, origin=str(data.path), wanted_by=f"{path} was trained on")
    _say(f"\nloss and gradient norm in {config.precision} with the network of {path}")
    trial = Trial(checkpoint, config, torch.device(device))
    table = _outcome_table()
    culprits = []
    for batch in batches:
        for place, example in enumerate(batch.recorded.examples):
            outcome = trial.run(batch.tensor[:, place : place + 1], batch.recorded.number)
            _add_outcome(table, f"example {example.number:,}", outcome)
            culprits += [] if outcome.is_finite else [f"{example.number:,}"]
        _add_outcome(table, f"batch {batch.recorded.number:,} together", trial.run(batch.tensor, batch.recorded.number))
    console.print(table)
    _say(f"not finite alone: {', '.join(culprits)}" if culprits else "each example alone is finite")


def _outcome_table() -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in ("loss", "gradient norm"):
        table.add_column(heading, justify="right")
    return table


def _add_outcome(table: Table, name: str, outcome: Outcome) -> None:
    style = None if outcome.is_finite else "bold red"
    table.add_row(name, f"{outcome.loss:.6g}", f"{outcome.gradient_norm:.6g}", style=style)
