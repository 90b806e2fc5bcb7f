"""What every architecture is to those who train it or separate with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from vrtool.errors import InputError, RecipeError
from vrtool.model.config import ModelConfig


class MaskStream(ABC):
    """A song in one pass: magnitudes in as they come, masks out a look-ahead later."""

    @abstractmethod
    def push(self, magnitude: Tensor) -> Tensor:
        """Take the next frames (B, C, F, n), n >= 0, and return the masks (B, C, F, m), m >= 0, of those now known.

        Frame t is known once frame t + look_ahead_frames was pushed.
        """

    @abstractmethod
    def finish(self) -> Tensor:
        """Return the masks (B, C, F, m) of the frames still owed, after which no frame comes."""


class Network(nn.Module, ABC):
    """Magnitudes in, the instrumental's mask out.

    `requires_frames` is the number of frames that the network needs, None where any will do. `look_ahead_frames` is how
    many frames after its own a frame's mask depends on, None for all of them, which is what most networks look at.
    """

    settings: ClassVar[frozenset[str]]
    """The fields of ModelConfig beside `architecture` that the network is built from.

    Recipes may set no other, and checkpoints carry no other. `num_channels` and `n_fft`, which say what goes in, are
    always among them.
    """

    requires_frames: int | None = None
    look_ahead_frames: int | None = None

    def __init__(self, config: ModelConfig) -> None:
        self.require_buildable(config)
        super().__init__()
        self.config = config

    @classmethod
    def require_buildable(cls, config: ModelConfig) -> None:
        """Raise RecipeError unless the settings fit each other, which ModelConfig, knowing no network, cannot tell."""
        del config

    @abstractmethod
    def forward(self, magnitude: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) in [0, 1] from magnitudes of the same shape in [0, 1]; InputError for others."""

    def require_shape(self, magnitude: Tensor) -> None:
        """Raise InputError unless `magnitude` is (B, C, F, T) of the network's channels, bins and frames, 1 or more."""
        channels, bins, frames = self.config.num_channels, self.config.num_bins, self.requires_frames
        found = tuple(magnitude.shape)
        if magnitude.ndim != 4 or found[1:3] != (channels, bins) or frames not in (None, found[3]) or found[3] == 0:
            raise InputError(
                f"the network takes magnitudes (batch, {channels}, {bins}, {frames or 'frames'}), found {found}"
            )

    def training_mask(self, mixture: Tensor, instrumental: Tensor) -> Tensor:
        """Return the mask that training judges, from magnitudes (B, C, F, T) of a mixture and of its true instrumental.

        Networks that learn from the mixture alone leave the truth to the loss.
        """
        del instrumental
        return self(mixture)

    def recompute_activations(self) -> None:
        """From now on keep less of a training pass for the way back, and compute it again there.

        Raises RecipeError where that is not built in.
        """
        raise RecipeError(
            f"a network of architecture {self.config.architecture!r} keeps what it computes; leave "
            "training.recompute_activations out"
        )

    def open_stream(self) -> MaskStream:
        """Return the start of a song in one pass; InputError from a network that looks at all frames at once."""
        raise InputError(
            f"a network of architecture {self.config.architecture!r} looks at all frames at once and cannot be "
            'streamed; train one with architecture = "autoregressive" and a number of look_ahead_frames'
        )

    if TYPE_CHECKING:
        # torch declares that calling a module may return anything.
        def __call__(self, magnitude: Tensor) -> Tensor:
            """Return what `forward` does."""
