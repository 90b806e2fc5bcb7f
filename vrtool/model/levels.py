"""The levels of the frame transformers: every one halves the bins of the level above it, and is shared among bands."""

from __future__ import annotations

from vrtool.errors import RecipeError
from vrtool.model.config import ModelConfig
from vrtool.model.frequency_axis import num_merged_bins

# Channels of each level's features, in multiples of ModelConfig.channels.
WIDTHS = (1, 2, 4, 6, 8)

# Every level but the first halves the bins.
NUM_HALVINGS = len(WIDTHS) - 1


def level_widths(config: ModelConfig) -> list[int]:
    """Return the number of channels of each level's features, finest first."""
    return [factor * config.channels for factor in WIDTHS]


def level_bins(config: ModelConfig) -> tuple[int, ...]:
    """Return the number of bins that each level works on, finest first; RecipeError if `fine_bins` does not fit."""
    num_bins = num_merged_bins(config.n_fft // 2, config.fine_bins)
    return tuple(num_bins >> level for level in range(NUM_HALVINGS + 1))


def require_bands_that_fit(config: ModelConfig) -> None:
    """Raise RecipeError unless every level's bins can be shared out evenly among `num_bands`."""
    # Bands of the deepest level have a whole number of bins if and only if those of every level have.
    unit, num_bins = 2**NUM_HALVINGS * config.num_bands, level_bins(config)[0]
    if num_bins >= unit and num_bins % unit == 0:
        return
    if config.fine_bins:
        raise RecipeError(
            f"fine_bins = {config.fine_bins} of n_fft / 2 = {config.n_fft // 2} bins leave {num_bins}, which must be a "
            f"multiple of 16 x num_bands = {unit}; choose fewer bands or other fine_bins"
        )
    raise RecipeError(
        f"n_fft must be a multiple of 32 x num_bands = {2 * unit}, so that num_bands = {config.num_bands} divides the "
        f"n_fft / 32 bins of the deepest level, found {config.n_fft}; choose fewer bands or another n_fft"
    )
