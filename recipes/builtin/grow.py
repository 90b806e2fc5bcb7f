"""Grows a trained frame transformer: a larger network that gives the very same masks, for a run to begin with.

    python recipes/builtin/grow.py MODEL OUTPUT [--channels N] [--num-encoders N] [--num-decoders N]

New parts begin with random weights as in any network, but the old ones do not hear them yet: their weights for new
channels are zero, and training finds what they are good for. That growing keeps what a network does is the idea of
Chen, Goodfellow and Shlens 2016, "Net2Net". MODEL is a run, a checkpoint or `builtin`; OUTPUT a checkpoint for `vrtool
train --from` with a recipe of the same numbers.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vrtool.model import ModelConfig
from vrtool.model.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, save_checkpoint
from vrtool.model.levels import level_widths
from vrtool.model.registry import build_model

# How many channels each part of what a layer hears has, before and after growing, in order.
Parts = list[tuple[int, int]]


def main() -> None:
    """Read the command line and write the grown network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--channels", type=int)
    parser.add_argument("--num-encoders", type=int)
    parser.add_argument("--num-decoders", type=int)
    parser.add_argument("--seed", type=int, default=0, help="of the new weights")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(find_checkpoint(arguments.model))
    old = checkpoint.model
    if old.architecture != "frame_transformer":
        sys.exit(f"{arguments.model}: expected a frame transformer, found architecture {old.architecture!r}")
    asked = {name: getattr(arguments, name) for name in ("channels", "num_encoders", "num_decoders")}
    sizes = {name: size for name, size in asked.items() if size is not None}
    for name, size in sizes.items():
        if size < (least := getattr(old, name)):
            sys.exit(f"{arguments.model}: networks only grow, {name} must be {least} or more, found {size}")
    new = replace(old, **sizes)
    if new == old:
        sys.exit(f"{arguments.model}: nothing grows; say what of --channels, --num-encoders and --num-decoders")
    torch.manual_seed(arguments.seed)
    weights = grown_weights(checkpoint.weights, old, new)
    # What is told of a training is that of the old network.
    save_checkpoint(arguments.output, Checkpoint(weights=weights, model=new, stft=checkpoint.stft))


def grown_weights(weights: dict[str, Tensor], old: ModelConfig, new: ModelConfig) -> dict[str, Tensor]:
    """Return the weights of a network `new`, nowhere smaller than `old`, that gives the masks of `old` with these."""
    grown = build_model(new).state_dict()
    inputs = _growing_inputs(old, new)
    for name, weight in weights.items():
        target = grown[name]
        rows = target[: len(weight)] if weight.ndim else target
        if name in inputs:
            rows.zero_()
            rows[:, _positions(inputs[name])] = weight.to(target.dtype)
        else:
            rows.copy_(weight)
    return grown


def _growing_inputs(old: ModelConfig, new: ModelConfig) -> dict[str, Parts]:
    """Return what the layers that hear a level's channels hear, by the names of their weights."""
    encoders, decoders = (old.num_encoders, new.num_encoders), (old.num_decoders, new.num_decoders)
    widths = list(zip(level_widths(old), level_widths(new), strict=True))
    inputs: dict[str, Parts] = {"output.weight": [widths[0], decoders]}
    for level, width in enumerate(widths):
        encoder = f"encoders.{level}"
        if level > 0:
            inputs[f"{encoder}.convolutions.0.convolution.weight"] = [widths[level - 1], encoders]
            inputs[f"{encoder}.convolutions.1.convolution.weight"] = [width]
            inputs[f"ascents.{level - 1}.convolution.convolution.weight"] = [
                width, decoders, widths[level - 1], encoders,
            ]  # fmt: skip
        for block in range(old.num_encoders):
            inputs[f"{encoder}.blocks.{block}.bottleneck.weight"] = [width, (block, block)]
        for block in range(old.num_decoders):
            inputs[f"decoders.{level}.blocks.{block}.bottleneck.weight"] = [width, (block, block)]
            inputs[f"decoders.{level}.blocks.{block}.skip_bottleneck.weight"] = [width, encoders]
    return inputs


def _positions(parts: Parts) -> list[int]:
    """Return where the channels that were there lie among the grown ones."""
    positions: list[int] = []
    start = 0
    for before, after in parts:
        positions += range(start, start + before)
        start += after
    return positions


if __name__ == "__main__":
    main()
