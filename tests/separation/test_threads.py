"""One separator, many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.model import ModelConfig, build_model
from vrtool.separation.separator import Separator

CONFIGS = {
    "frame_transformer": ModelConfig(
        n_fft=128, channels=1, num_bands=2, feedforward_dim=8, num_encoders=1, num_decoders=1, crop_frames=16
    ),
    "autoregressive": ModelConfig(
        architecture="autoregressive", n_fft=128, channels=1, num_bands=2, feedforward_dim=8, num_decoders=1,
        crop_frames=16, look_ahead_frames=2,
    ),
}  # fmt: skip


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_songs_separated_at_once_are_those_separated_alone(architecture: str) -> None:
    torch.manual_seed(0)
    spec = StftSpec(sample_rate=8000, n_fft=128, hop_length=64)
    separator = Separator(build_model(CONFIGS[architecture]), spec, device="cpu", chunk_frames=32)

    def vocals(seed: int) -> FloatArray:
        samples = np.random.default_rng(seed).uniform(-1, 1, (2, 2500 + 100 * seed)).astype(np.float32)
        return separator.separate(Waveform(samples=samples, sample_rate=8000)).vocals.samples

    alone = [vocals(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(vocals, range(3)))
    for one, other in zip(alone, at_once, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert np.abs(alone[0]).max() > 0.01
