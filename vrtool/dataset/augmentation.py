"""What may be done to tracks on their way into a training example, and how often; `drawer.py` draws it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from vrtool.errors import RecipeError


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    """The `[augmentation]` section of a recipe. Probabilities are in [0, 1], ranges are (low, high)."""

    vocals_probability: float = 0.98
    """An instrumental gets a layer of vocals; otherwise the mixture is the instrumental alone."""
    second_vocals_probability: float = 0.5
    """Another vocal track joins; after each one the probability is multiplied by `second_vocals_decay`."""
    second_vocals_decay: float = 0.5
    max_vocal_layers: int = 4
    vocals_swap_probability: float = 0.5
    vocals_mute_channel_probability: float = 0.025
    vocals_polarity_probability: float = 0.5
    vocals_level_db: tuple[float, float] = (-9.0, 6.0)
    """RMS of the vocals relative to the instrumental's, over what is not silent of each track."""
    vocals_pan_db: tuple[float, float] = (0.0, 3.0)
    """Difference between the channels, to either side."""
    vocals_equaliser_probability: float = 0.5
    vocals_doubling_probability: float = 0.0
    """The vocals sound once more, a little later, up to 6 dB fainter and to the other side, as a desk doubles them."""
    vocals_reverberation_probability: float = 0.0
    vocals_reverberation_seconds: tuple[float, float] = (0.3, 3.0)
    """In which the tail falls by 60 dB."""
    vocals_reverberation_db: tuple[float, float] = (-30.0, -10.0)
    """Level of the tail's first 50 ms relative to the vocals."""
    instrumental_equaliser_probability: float = 0.0
    equaliser_db: float = 6.0
    """Largest gain or cut at each octave of the random equaliser."""
    pair_share: float = 0.5
    """How often an example starts from a pair when there are instrumentals as well."""
    pair_remix_probability: float = 0.0
    """The vocals of a pair are replaced: its instrumental is used like a track of the instrumental pool."""
    pair_rebalance_probability: float = 0.0
    """The vocals of a pair that has some are laid over its instrumental anew, changed as those of another track."""
    pair_rebalance_db: tuple[float, float] = (-6.0, 6.0)
    """Level of vocals that are laid anew, relative to what the pair had."""
    pair_vocals_share: float = 0.0
    """How often a vocal layer is the vocals of some pair (its mixture less its instrumental)."""
    pair_extra_vocals_probability: float = 0.25
    """A pair gets an extra layer of vocals on its mixture."""
    swap_probability: float = 0.5
    """The example's left and right are exchanged."""
    identity_probability: float = 0.025
    """The mixture becomes the instrumental: the network must learn to leave music alone."""
    mixup_probability: float = 0.5
    mixup_beta: float = 0.4
    """The example is blended with another one, with a weight from Beta(mixup_beta, mixup_beta)."""
    library_weights: dict[str, float] = field(default_factory=dict)
    """How often tracks of a library are drawn beside others of their kind, which have 1: "vocal/choirs" = 0.5."""

    def __post_init__(self) -> None:
        for name, weight in self.library_weights.items():
            if not 0.0 <= weight < math.inf:
                raise RecipeError(f"[augmentation] library_weights: {name!r} must be 0 or more, found {weight}")
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.name.endswith(("_probability", "_share", "_decay")) and not 0.0 <= value <= 1.0:
                raise RecipeError(f"[augmentation] {setting.name} must be between 0 and 1, found {value}")
            if isinstance(value, tuple) and not -math.inf < value[0] <= value[1] < math.inf:
                raise RecipeError(f"[augmentation] {setting.name} must be [low, high], found {list(value)}")
        if self.vocals_reverberation_seconds[0] <= 0.0:
            found = list(self.vocals_reverberation_seconds)
            raise RecipeError(f"[augmentation] vocals_reverberation_seconds must be above 0, found {found}")
        if self.max_vocal_layers < 1:
            raise RecipeError(f"[augmentation] max_vocal_layers must be 1 or more, found {self.max_vocal_layers}")
        if not 0.0 < self.mixup_beta < math.inf:
            raise RecipeError(f"[augmentation] mixup_beta must be above 0, found {self.mixup_beta}")
        if not 0.0 <= self.equaliser_db < math.inf:
            raise RecipeError(f"[augmentation] equaliser_db must be 0 or more, found {self.equaliser_db}")


NO_AUGMENTATION = AugmentationConfig(
    vocals_probability=1.0,
    second_vocals_probability=0.0,
    vocals_swap_probability=0.0,
    vocals_mute_channel_probability=0.0,
    vocals_polarity_probability=0.0,
    vocals_level_db=(-3.0, -3.0),
    vocals_pan_db=(0.0, 0.0),
    vocals_equaliser_probability=0.0,
    vocals_doubling_probability=0.0,
    vocals_reverberation_probability=0.0,
    pair_remix_probability=0.0,
    pair_rebalance_probability=0.0,
    pair_extra_vocals_probability=0.0,
    swap_probability=0.0,
    identity_probability=0.0,
    mixup_probability=0.0,
)
"""One layer of vocals at a typical level and nothing else: what validation examples are drawn with."""
