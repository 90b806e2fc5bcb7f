"""A network that can be streamed and whose masks are known beforehand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vrtool.model import ModelConfig, Network
from vrtool.model.network import MaskStream


class NeighbourNetwork(Network):
    """A frame's mask is a function of the mean over the frame before it, itself and those within its look-ahead."""

    settings = frozenset()

    def __init__(self, look_ahead_frames: int, config: ModelConfig) -> None:
        super().__init__(config)
        self.look_ahead_frames = look_ahead_frames
        self.num_pushes: list[int] = []

    def forward(self, magnitude: Tensor) -> Tensor:
        assert self.look_ahead_frames is not None
        return self.mask_within(functional.pad(magnitude, (1, self.look_ahead_frames)))

    def mask_within(self, magnitude: Tensor) -> Tensor:
        """Return the masks of all frames that have their neighbours."""
        assert self.look_ahead_frames is not None
        means = magnitude.unfold(3, self.look_ahead_frames + 2, 1).mean(dim=-1)
        # Bins and channels have to do with each other, as in a true network.
        return torch.sigmoid(20 * means + 5 * means.roll(1, dims=2) - 5 * means.mean(dim=1, keepdim=True) - 1)

    def open_stream(self) -> MaskStream:
        return NeighbourStream(self)


class NeighbourStream(MaskStream):
    def __init__(self, network: NeighbourNetwork) -> None:
        self.network = network
        self.known: Tensor | None = None

    def push(self, magnitude: Tensor) -> Tensor:
        self.network.num_pushes.append(magnitude.shape[3])
        before = functional.pad(magnitude[..., :0], (1, 0)) if self.known is None else self.known
        self.known = torch.cat((before, magnitude), dim=3)
        assert self.network.look_ahead_frames is not None
        num_neighbours = self.network.look_ahead_frames + 1
        if self.known.shape[3] <= num_neighbours:
            return magnitude[..., :0]
        mask = self.network.mask_within(self.known)
        self.known = self.known[..., -num_neighbours:]
        return mask

    def finish(self) -> Tensor:
        assert self.known is not None
        assert self.network.look_ahead_frames is not None
        return self.push(torch.zeros_like(self.known[..., :1]).expand(-1, -1, -1, self.network.look_ahead_frames))


@pytest.fixture(scope="session")
def neighbours() -> Callable[..., Network]:
    """`neighbours(look_ahead_frames, n_fft=, num_channels=)` gives such a network."""

    def build(look_ahead_frames: int, *, n_fft: int = 256, num_channels: int = 2) -> Network:
        return NeighbourNetwork(look_ahead_frames, ModelConfig(n_fft=n_fft, num_channels=num_channels))

    return build
