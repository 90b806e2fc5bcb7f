"""Layers that keep frames apart, computed for a few frames at a time where only their result is wanted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vrtool.model.recomputation import recomputed

# So many frames of the finest level are a few megabytes, which stay in a processor's cache from layer to layer.
SLICE_FRAMES = 64


def frame_by_frame(part: nn.Module, *inputs: Tensor) -> Tensor:
    """Return part(*inputs), (B, T, F', C') of inputs (B, T, F, C); `part` keeps frames apart unless it is training.

    On a CPU without a gradient what lies in between takes the memory of a slice of frames. Otherwise nothing but the
    inputs is kept for the backward pass, see `recomputed`.
    """
    num_frames = inputs[0].shape[1]
    is_wanted_whole = part.training or inputs[0].device.type != "cpu" or torch.compiler.is_compiling()
    if is_wanted_whole or torch.is_grad_enabled() or num_frames <= SLICE_FRAMES:
        return recomputed(part, *inputs)
    first: Tensor = part(*(x[:, :SLICE_FRAMES] for x in inputs))
    whole = first.new_empty(len(first), num_frames, *first.shape[2:])
    whole[:, :SLICE_FRAMES] = first
    for start in range(SLICE_FRAMES, num_frames, SLICE_FRAMES):
        frames = slice(start, start + SLICE_FRAMES)
        whole[:, frames] = part(*(x[:, frames] for x in inputs))
    return whole
