"""From magnitudes to features and from logits to masks, for networks whose features lie frame by frame, bins last.

Magnitudes and masks are (B, C, F + 1, T) (batch, channel, bin, frame), features (B, T, F, C): networks that halve bins
over and over leave the topmost one out.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frame_features(magnitude: Tensor) -> Tensor:
    """Return (B, T, F, C) from (B, C, F + 1, T), laid out in memory as its shape says, without the topmost bin."""
    return magnitude[:, :, :-1].permute(0, 3, 2, 1).contiguous()


def frame_mask(logits: Tensor) -> Tensor:
    """Return the mask (B, C, F + 1, T), float32 in [0, 1], from logits (B, T, F, C).

    The topmost bin repeats the one below it. Frames lie before bins in its memory, as they do in a cache's
    spectrograms. The sigmoid is taken in float32 whatever the network computes in: masks near 1 decide how quiet the
    quiet stem is.
    """
    planes = logits.float().permute(0, 3, 1, 2)
    return torch.cat((planes, planes[..., -1:]), dim=-1).contiguous().sigmoid().transpose(2, 3)
