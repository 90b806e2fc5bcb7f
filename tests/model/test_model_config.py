"""Settings that cannot make a network are refused with a sentence that says why."""

from __future__ import annotations

from typing import Any

import pytest

from vrtool.errors import RecipeError
from vrtool.model import ModelConfig, build_model
from vrtool.model.levels import level_bins


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_channels": 0}, "num_channels must be at least 1, found 0"),
        ({"channels": 0}, "channels must be at least 1, found 0"),
        ({"num_bands": 0}, "num_bands must be at least 1, found 0"),
        ({"crop_frames": 0}, "crop_frames must be at least 1, found 0"),
        ({"num_encoders": -1}, "num_encoders must be at least 0, found -1"),
        ({"num_decoders": -1}, "num_decoders must be at least 0, found -1"),
        ({"feedforward_dim": 3}, "feedforward_dim must be at least 4, found 3"),
        ({"norm": "middle"}, "norm must be one of pre, post, found 'middle'"),
        ({"position": "sinus"}, "position must be one of relative, rotary, ancestor, found 'sinus'"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), found 1.0"),
        ({"compression": 0.0}, r"compression must lie in \(0, 1\], found 0.0"),
        ({"n_fft": 0}, r"n_fft must be a positive even number of samples, found 0"),
        ({"n_fft": 1023}, r"n_fft must be a positive even number of samples, found 1023"),
        ({"look_ahead_frames": -2}, "look_ahead_frames must be at least -1, found -2"),
        ({"true_past_share": -0.1}, r"must be shares of one whole, found \(0.25, -0.1\)"),
        ({"own_past_share": 0.8, "true_past_share": 0.3}, r"must be shares of one whole, found \(0.8, 0.3\)"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        ModelConfig(**settings)


@pytest.mark.parametrize("architecture", ["frame_transformer", "autoregressive"])
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_fft": 2048, "num_bands": 3}, r"multiple of 32 x num_bands = 96.*num_bands = 3.*found 2048"),
        ({"n_fft": 128, "num_bands": 8}, r"multiple of 32 x num_bands = 256.*found 128"),
        ({"n_fft": 2}, r"multiple of 32 x num_bands"),
    ],
)
def test_networks_with_bands_refuse_bins_that_cannot_be_shared_out(
    architecture: str, settings: dict[str, Any], sentence: str
) -> None:
    config = ModelConfig(architecture=architecture, **settings)
    with pytest.raises(RecipeError, match=sentence):
        build_model(config)


def test_levels_halve_the_bins_four_times() -> None:
    config = ModelConfig(n_fft=2048)
    assert config.num_bins == 1025
    assert level_bins(config.n_fft // 2) == (1024, 512, 256, 128, 64)
