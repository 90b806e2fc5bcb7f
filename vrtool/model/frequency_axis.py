"""A coarser frequency axis for what a network computes: every bin up to a limit, above it half as many per octave more.

Voices and music differ in their harmonics, which lie apart at low frequencies; what is above is broad. The ideal ratio
mask of n_fft 4096 loses 0.06 dB if all above 256 fine bins (2.75 kHz at 44.1 kHz) is merged so, 640 bins in place of
2,048, and what a transformer block computes grows with the square of their number.

Features are (B, T, F, C): batch, frame, bin, channel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vrtool.errors import RecipeError


def num_merged_bins(num_bins: int, fine_bins: int) -> int:
    """Return how many are left of `num_bins`: the fine ones, and half as many for each octave above; 0 merges none.

    Raises RecipeError unless the fine ones are an even number and the others are whole octaves.
    """
    if fine_bins == 0:
        return num_bins
    ratio = num_bins // fine_bins
    if fine_bins % 2 or ratio * fine_bins != num_bins or ratio & (ratio - 1):
        raise RecipeError(
            f"fine_bins must be even and n_fft / 2 = {num_bins} divided by a power of two, or 0 for all bins, found "
            f"{fine_bins}; {num_bins // 4} is an example"
        )
    num_octaves = ratio.bit_length() - 1
    return fine_bins + num_octaves * (fine_bins // 2)


def merged(x: Tensor, fine_bins: int) -> Tensor:
    """Return magnitudes with means over 2, 4, ... neighbours in the first, second, ... octave above the fine bins."""
    if fine_bins == 0:
        return x
    parts, start, width = [x[:, :, :fine_bins]], fine_bins, 2
    while start < x.shape[2]:
        parts.append(_grouped(x[:, :, start : 2 * start], width).mean(dim=3))
        start, width = 2 * start, 2 * width
    return torch.cat(parts, dim=2)


def spread(x: Tensor, fine_bins: int) -> Tensor:
    """Return all bins from merged ones: those that were merged are alike."""
    if fine_bins == 0:
        return x
    parts, width = [x[:, :, :fine_bins]], 2
    for octave in torch.split(x[:, :, fine_bins:], fine_bins // 2, dim=2):
        parts.append(octave.unsqueeze(3).expand(-1, -1, -1, width, -1).flatten(2, 3))
        width *= 2
    return torch.cat(parts, dim=2)


def _grouped(x: Tensor, width: int) -> Tensor:
    """Return (B, T, F / width, width, C)."""
    return x.reshape(*x.shape[:2], x.shape[2] // width, width, x.shape[3])
