"""What a network is made of: the settings that, with its weights, are the whole of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vrtool.errors import RecipeError

Norm = Literal["pre", "post"]
Position = Literal["relative", "rotary", "ancestor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The settings of a network; recipes write them and checkpoints carry them.

    Each architecture is built from some of them, its `settings`, and leaves the others alone.

    Attributes:
        architecture: a name in the registry of architectures.
        num_channels: audio channels in and out.
        n_fft: window length in samples; the network works on n_fft / 2 bins, the topmost is left out.
        channels: width of the first level's features; deeper levels are wider by fixed factors.
        fine_bins: up to which bin the network sees each by itself; in the octave above it sees pairs, in the next one
            fours, and so on. 0 lets it see every bin.
        num_bands: attention heads; each owns an equal share of a level's bins.
        feedforward_dim: inner width of the blocks' feed-forward layers.
        num_encoders: transformer blocks per level on the way down.
        num_decoders: transformer blocks per level on the way up.
        crop_frames: frames that position tables are made for: `relative` knows distances up to it, `ancestor` takes
            exactly that many frames, `rotary` has no table; how far back the autoregressive network remembers.
        dropout: share of each sub-layer's output that training zeroes.
        bias: whether the blocks' layers outside attention have biases.
        norm: layer norm before each sub-layer (`pre`) or after its residual sum (`post`).
        position: how attention learns how far apart two frames are.
        compression: the network sees magnitude ** compression. Music's magnitudes are mostly below a hundredth of the
            peak; 0.3 spreads them (Ephrat et al. 2018, "Looking to Listen at the Cocktail Party", section 5.1), 1.0
            leaves them as they are.
        look_ahead_frames: how many frames after its own a frame's mask may depend on in the autoregressive network,
            -1 for all of them.
        own_past_share: share of the autoregressive network's training batches whose past is its own output.
        true_past_share: share of those whose past is the true instrumental, more or less spoiled. In what both leave,
            the past is a share of the mixture.

    Raises RecipeError for a setting out of range or one that does not fit another.
    """

    architecture: str = "frame_transformer"
    num_channels: int = 2
    n_fft: int = 2048
    channels: int = 8
    fine_bins: int = 0
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
    look_ahead_frames: int = 32
    own_past_share: float = 0.25
    true_past_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("num_channels", "channels", "num_bands", "crop_frames"):
            _require_at_least(name, getattr(self, name), 1)
        for name in ("num_encoders", "num_decoders", "fine_bins"):
            _require_at_least(name, getattr(self, name), 0)
        # The narrowest branch of a block is a quarter of it.
        _require_at_least("feedforward_dim", self.feedforward_dim, 4)
        if self.n_fft < 2 or self.n_fft % 2:
            raise RecipeError(f"n_fft must be a positive even number of samples, found {self.n_fft}; 2048 is usual")
        _require_choice("norm", self.norm, get_args(Norm))
        _require_choice("position", self.position, get_args(Position))
        _require_at_least("look_ahead_frames", self.look_ahead_frames, -1)
        shares = (self.own_past_share, self.true_past_share)
        if min(shares) < 0.0 or sum(shares) > 1.0:
            raise RecipeError(f"own_past_share and true_past_share must be shares of one whole, found {shares}")
        if not 0.0 <= self.dropout < 1.0:
            raise RecipeError(f"dropout must lie in [0, 1), found {self.dropout}; 0.1 is usual")
        if not 0.0 < self.compression <= 1.0:
            raise RecipeError(
                f"compression must lie in (0, 1], found {self.compression}; 0.3 is usual, 1 switches it off"
            )

    @property
    def num_bins(self) -> int:
        """The number of bins of the magnitudes and of the mask, the topmost included."""
        return self.n_fft // 2 + 1


def _require_at_least(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise RecipeError(f"{name} must be at least {minimum}, found {value}")


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RecipeError(f"{name} must be one of {', '.join(choices)}, found {value!r}")
