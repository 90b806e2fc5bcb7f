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


def level_bins(config: ModelConfig) -> tuple[int, ...]:
    """Return the number of bins that each level works on, finest first."""
    return tuple(config.n_fft // 2 >> level for level in range(NUM_HALVINGS + 1))


def require_bands_that_fit(config: ModelConfig) -> None:
    """Raise RecipeError unless every level's bins can be shared out evenly among `num_bands`."""
    # Bands of the deepest level have a whole number of bins if and only if those of every level have.
    unit = 2 * 2**NUM_HALVINGS * config.num_bands
    if config.n_fft < unit or config.n_fft % unit:
        raise RecipeError(
            f"n_fft must be a multiple of 32 x num_bands = {unit}, so that num_bands = {config.num_bands} divides "
            f"the n_fft / 32 bins of the deepest level, found {config.n_fft}; choose fewer bands or another n_fft"
        )
