"""Vocals that a room or a mixing desk answers: more layers of the same track, later and fainter.

A spectrogram moves in time by whole hops without another change, so each reflection is a layer that begins later. Hops
are longer than the gaps between a room's reflections, but not than the windows, in which these blur all the same.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from vrtool.dataset.plan import Gains, Layer

DOUBLING_SECONDS = 0.03
"""How much later a doubled voice sounds, to the nearest hop and at least one: less is a comb, more is an echo."""
DOUBLING_DB = (-6.0, 0.0)
LEVEL_SECONDS = 0.05
"""The part of a tail whose level is its `level_db`."""
NUM_REFLECTIONS = 6
"""Each costs the mixing kernel another signal, and a pair's vocals two."""
FAINTEST_DB = -40.0
"""Reflections are not drawn from where the tail has fallen by more than this."""


def doubling(layer: Layer, rng: np.random.Generator, *, hop_seconds: float, num_frames: int) -> list[Layer]:
    """Return the layer a little later and fainter, its sides exchanged, in an example of `num_frames`."""
    gain = 10.0 ** (rng.uniform(*DOUBLING_DB) / 20.0)
    left, right = layer.mixture_gains
    delay_frames = max(1, round(DOUBLING_SECONDS / hop_seconds))
    return delayed(layer, delay_frames, (gain * right, gain * left), num_frames)


def reverberation(
    layer: Layer,
    rng: np.random.Generator,
    *,
    level_db: float,
    decay_seconds: float,
    hop_seconds: float,
    num_frames: int,
) -> list[Layer]:
    """Return the reflections of a layer in an example of `num_frames`: a tail that falls by 60 dB in `decay_seconds`.

    The energy of its first 50 ms is `level_db` relative to the layer. Reflections are spread over the tail by chance,
    and have signs of their own left and right: a room's are not the same at two ears.
    """
    fall_db = 60.0 * hop_seconds / decay_seconds
    tail_frames = max(1, math.ceil(-FAINTEST_DB / fall_db))
    number = min(NUM_REFLECTIONS, tail_frames)
    delays = np.sort(rng.choice(tail_frames, number, replace=False)) + 1
    # Each stands for the energy of its share of the tail, whatever the hop.
    first_db = level_db + 10.0 * math.log10(hop_seconds / LEVEL_SECONDS * tail_frames / number)
    layers = []
    for delay, signs in zip(delays.tolist(), rng.choice((-1.0, 1.0), (number, 2)).tolist(), strict=True):
        gain = 10.0 ** ((first_db - fall_db * (delay - 1)) / 20.0)
        left, right = layer.mixture_gains
        layers += delayed(layer, delay, (gain * signs[0] * left, gain * signs[1] * right), num_frames)
    return layers


def delayed(layer: Layer, delay_frames: int, mixture_gains: Gains, num_frames: int) -> list[Layer]:
    """Return the layer so many frames later with other gains, cut where the example ends; none if nothing is left."""
    # What lies before the crop in the track comes in at its beginning.
    lead = min(delay_frames, layer.offset_frames)
    position = layer.position_frames + delay_frames - lead
    length = min(layer.num_frames + lead, num_frames - position)
    if length < 1:
        return []
    return [
        replace(
            layer,
            offset_frames=layer.offset_frames - lead,
            num_frames=length,
            position_frames=position,
            mixture_gains=mixture_gains,
        )
    ]
