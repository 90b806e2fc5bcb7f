"""What a run is made from."""

from __future__ import annotations

from dataclasses import dataclass

from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.model import ModelConfig
from vrtool.training.config import TrainingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetup:
    """The recipe's parts, and its text for the checkpoints."""

    recipe_text: str
    model: ModelConfig
    augmentation: AugmentationConfig
    training: TrainingConfig
