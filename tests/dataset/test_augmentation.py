from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.errors import RecipeError

PROBABILITIES = [
    setting.name
    for setting in fields(AugmentationConfig)
    if setting.name.endswith(("_probability", "_share", "_decay"))
]
RANGES = [setting.name for setting in fields(AugmentationConfig) if isinstance(setting.default, tuple)]


def changed(setting: str, value: object) -> AugmentationConfig:
    changes: dict[str, Any] = {setting: value}
    return AugmentationConfig(**changes)


class TestConfig:
    @pytest.mark.parametrize("setting", PROBABILITIES)
    @pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
    def test_a_probability_out_of_range_is_refused_by_name(self, setting: str, value: float) -> None:
        with pytest.raises(RecipeError, match=rf"\[augmentation\] {setting} must be between 0 and 1, found {value}"):
            changed(setting, value)

    @pytest.mark.parametrize("value", [(1.0, 0.0), (math.nan, 1.0), (0.0, math.inf), (-math.inf, 0.0)])
    @pytest.mark.parametrize("setting", RANGES)
    def test_a_range_that_is_none_is_refused_by_name(self, setting: str, value: tuple[float, float]) -> None:
        with pytest.raises(RecipeError, match=rf"\[augmentation\] {setting} must be \[low, high\]"):
            changed(setting, value)

    @pytest.mark.parametrize(("setting", "value"), [
        ("max_vocal_layers", 0), ("mixup_beta", 0.0), ("mixup_beta", math.nan), ("mixup_beta", math.inf),
        ("equaliser_db", -1.0), ("equaliser_db", math.nan), ("equaliser_db", math.inf),
    ])  # fmt: skip
    def test_a_number_out_of_range_is_refused_by_name(self, setting: str, value: float) -> None:
        with pytest.raises(RecipeError, match=rf"\[augmentation\] {setting} must be .*, found {value}"):
            changed(setting, value)

    def test_a_tail_that_takes_no_time_is_refused(self) -> None:
        with pytest.raises(RecipeError, match=r"vocals_reverberation_seconds must be above 0, found \[0.0, 1.0\]"):
            changed("vocals_reverberation_seconds", (0.0, 1.0))

    @pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
    def test_a_weight_that_is_none_is_an_error(self, weight: float) -> None:
        with pytest.raises(RecipeError, match=rf"'vocal/songs' must be 0 or more, found {weight}"):
            AugmentationConfig(library_weights={"vocal/songs": weight})
