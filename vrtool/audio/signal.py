"""Long signals that are read piece by piece, so that no song has to fit into memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vrtool.audio.formats import FloatArray


class Signal(Protocol):
    """Audio of a known length, of which any stretch can be read."""

    @property
    def num_samples(self) -> int:
        """The number of samples of each channel."""
        ...

    @property
    def num_channels(self) -> int:
        """The number of channels."""
        ...

    def read(self, start: int, count: int) -> FloatArray:
        """Return `count` samples from `start` on, float32 (channel, sample); only asked for what is there."""
        ...


@dataclass(frozen=True, slots=True)
class ArraySignal:
    """A signal that lies in memory."""

    samples: FloatArray

    @property
    def num_samples(self) -> int:
        """The number of samples of each channel."""
        return int(self.samples.shape[1])

    @property
    def num_channels(self) -> int:
        """The number of channels."""
        return len(self.samples)

    def read(self, start: int, count: int) -> FloatArray:
        """Return a view of a stretch."""
        return self.samples[:, start : start + count]


def read_padded(signal: Signal, start: int, count: int) -> FloatArray:
    """Return `count` samples (channel, sample) from `start` on, with silence before and after the signal."""
    first, last = max(start, 0), min(start + count, signal.num_samples)
    if first >= last:
        return np.zeros((signal.num_channels, count), np.float32)
    samples = signal.read(first, last - first)
    if last - first == count:
        return samples
    return np.pad(samples, ((0, 0), (first - start, start + count - last)))
