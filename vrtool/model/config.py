"""What a network is made of: the settings that, with its weights, are the whole of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vrtool.errors import RecipeError

Norm = Literal["pre", "post"]
Position = Literal["relative", "rotary", "ancestor"]

# The frame transformer halves the bins four times on its way down.
NUM_HALVINGS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The settings of a network; recipes write them and checkpoints carry them.

    Attributes:
        architecture: a name in the registry of architectures.
        num_channels: audio channels in and out.
        n_fft: window length in samples; the network works on n_fft / 2 bins, the topmost is left out.
        channels: width of the first level's features; deeper levels are 2, 4, 6 and 8 times as wide.
        num_bands: attention heads; each owns an equal share of a level's bins.
        feedforward_dim: inner width of the blocks' feed-forward layers.
        num_encoders: transformer blocks per level on the way down.
        num_decoders: transformer blocks per level on the way up.
        crop_frames: frames that position tables are made for: `relative` knows distances up to it, `ancestor` takes
            exactly that many frames, `rotary` has no table.
        dropout: share of each sub-layer's output that training zeroes.
        bias: whether the blocks' layers outside attention have biases.
        norm: layer norm before each sub-layer (`pre`) or after its residual sum (`post`).
        position: how attention learns how far apart two frames are.
        compression: the network sees magnitude ** compression. Music's magnitudes are mostly below a hundredth of the
            peak; 0.3 spreads them (Ephrat et al. 2018, "Looking to Listen at the Cocktail Party", section 5.1), 1.0
            leaves them as they are.

    Raises RecipeError for a setting out of range or one that does not fit another.
    """

    architecture: str = "frame_transformer"
    num_channels: int = 2
    n_fft: int = 2048
    channels: int = 8
    num_bands: int = 8
    feedforward_dim: int = 3072
    num_encoders: int = 2
    num_decoders: int = 2
    crop_frames: int = 1024
    dropout: float = 0.1
    bias: bool = True
    norm: Norm = "pre"
    position: Position = "rotary"
    compression: float = 0.3

    def __post_init__(self) -> None:
        for name in ("num_channels", "channels", "num_bands", "crop_frames"):
            _require_at_least(name, getattr(self, name), 1)
        for name in ("num_encoders", "num_decoders"):
            _require_at_least(name, getattr(self, name), 0)
        # The narrowest branch of a block is a quarter of it.
        _require_at_least("feedforward_dim", self.feedforward_dim, 4)
        _require_choice("norm", self.norm, get_args(Norm))
        _require_choice("position", self.position, get_args(Position))
        if not 0.0 <= self.dropout < 1.0:
            raise RecipeError(f"dropout must lie in [0, 1), found {self.dropout}; 0.1 is usual")
        if not 0.0 < self.compression <= 1.0:
            raise RecipeError(
                f"compression must lie in (0, 1], found {self.compression}; 0.3 is usual, 1 switches it off"
            )
        self._require_bands_that_fit()

    @property
    def num_bins(self) -> int:
        """The number of bins of the magnitudes and of the mask, the topmost included."""
        return self.n_fft // 2 + 1

    @property
    def level_bins(self) -> tuple[int, ...]:
        """The number of bins that each level of the frame transformer works on, finest first."""
        return tuple(self.n_fft // 2 >> level for level in range(NUM_HALVINGS + 1))

    def _require_bands_that_fit(self) -> None:
        # Bands of the deepest level have a whole number of bins if and only if those of every level have.
        unit = 2 * 2**NUM_HALVINGS * self.num_bands
        if self.n_fft < unit or self.n_fft % unit:
            raise RecipeError(
                f"n_fft must be a multiple of 32 x num_bands = {unit}, so that num_bands = {self.num_bands} divides "
                f"the n_fft / 32 bins of the deepest level, found {self.n_fft}; choose fewer bands or another n_fft"
            )


def _require_at_least(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise RecipeError(f"{name} must be at least {minimum}, found {value}")


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RecipeError(f"{name} must be one of {', '.join(choices)}, found {value!r}")
