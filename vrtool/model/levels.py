"""The levels of the frame transformers: every one halves the bins of the level above it, and is shared among bands."""

from __future__ import annotations

from vrtool.errors import RecipeError
from vrtool.model.config import ModelConfig

# Channels of each level's features, in multiples of ModelConfig.channels.
WIDTHS = (1, 2, 4, 6, 8)

# Every level but the first halves the bins.
NUM_HALVINGS = len(WIDTHS) - 1


def level_widths(config: ModelConfig) -> list[int]:
    """Return the number of channels of each level's features, finest first."""
    return [factor * config.channels for factor in WIDTHS]


def level_bins(num_bins: int) -> tuple[int, ...]:
    """Return the number of bins that each level works on, finest first, which has `num_bins`."""
    return tuple(num_bins >> level for level in range(NUM_HALVINGS + 1))


def require_bands_that_fit(config: ModelConfig) -> None:
    """Raise RecipeError unless the bins of every level, all of them seen, can be shared out among `num_bands`."""
    if not can_be_shared_out(config.n_fft // 2, config.num_bands):
        raise RecipeError(
            f"n_fft must be a multiple of 32 x num_bands = {32 * config.num_bands}, so that num_bands = "
            f"{config.num_bands} divides the n_fft / 32 bins of the deepest level, found {config.n_fft}; choose fewer "
            "bands or another n_fft"
        )


def can_be_shared_out(num_bins: int, num_bands: int) -> bool:
    """Return whether the bins of every level below `num_bins` can be shared out evenly among bands."""
    # Bands of the deepest level have a whole number of bins if and only if those of every level have.
    unit = (1 << NUM_HALVINGS) * num_bands
    return num_bins >= unit and num_bins % unit == 0
