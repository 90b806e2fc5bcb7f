"""What every architecture is to those who train it or separate with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from vrtool.model.config import ModelConfig


class Network(nn.Module, ABC):
    """Magnitudes in, the instrumental's mask out.

    `requires_frames` is the number of frames that the network needs, None where any will do.
    """

    config: ModelConfig
    requires_frames: int | None

    @abstractmethod
    def forward(self, magnitude: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) in [0, 1] from magnitudes of the same shape in [0, 1]; InputError for others."""

    if TYPE_CHECKING:
        # torch declares that calling a module may return anything.
        def __call__(self, magnitude: Tensor) -> Tensor:
            """Return what `forward` does."""
