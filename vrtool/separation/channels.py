"""Mono and stereo: how a network of one channel count serves songs of the other."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vrtool.audio.waveform import FloatArray
from vrtool.errors import JobError


def to_network_channels(magnitude: Tensor, num_channels: int) -> Tensor:
    """Return magnitudes (batch, channel, bin, frame) of one or two channels as a network of `num_channels` takes them.

    A mono song is a stereo one whose sides are equal. A mono network hears the sides one by one: its batch is twice as
    large.
    """
    if magnitude.shape[1] < num_channels:
        return magnitude.expand(-1, num_channels, -1, -1)
    if magnitude.shape[1] > num_channels:
        return magnitude.flatten(0, 1).unsqueeze(1)
    return magnitude


def from_network_channels(mask: Tensor, num_channels: int) -> Tensor:
    """Return the mask of a song of `num_channels`, given the network's of what `to_network_channels` made of the song.

    What the network says of a mono song's equal sides is averaged.
    """
    if mask.shape[1] > num_channels:
        return mask.mean(dim=1, keepdim=True)
    if mask.shape[1] < num_channels:
        return mask.reshape(len(mask) // num_channels, num_channels, *mask.shape[2:])
    return mask


def song_mask(mask: Tensor, num_channels: int) -> FloatArray:
    """Return a network's mask as that of a song of `num_channels`, float32; JobError if it holds other than numbers."""
    result: FloatArray = from_network_channels(mask, num_channels).float().cpu().numpy()
    if not np.isfinite(result).all():
        raise JobError("the network gives masks that are not numbers; its weights are damaged, use another checkpoint")
    return result
