"""Networks that can be streamed take a song in one pass, without chunks, through the same separator as all others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.errors import JobError
from vrtool.model import ModelConfig, Network, build_model
from vrtool.separation.separator import Separator

SPEC = StftSpec(sample_rate=8000, n_fft=128, hop_length=64)


def network(num_channels: int = 2, look_ahead_frames: int = 5) -> Network:
    torch.manual_seed(0)
    config = ModelConfig(
        architecture="autoregressive", num_channels=num_channels, n_fft=128, channels=2, num_bands=2,
        feedforward_dim=8, num_decoders=1, crop_frames=16, look_ahead_frames=look_ahead_frames,
    )  # fmt: skip
    return build_model(config).eval()


def song(num_channels: int, num_samples: int) -> FloatArray:
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 0.5, (num_channels, num_samples)).astype(np.float32)


def magnitude(samples: FloatArray) -> FloatArray:
    result: FloatArray = np.abs(stft(samples, SPEC))
    result /= result.max()
    return result


@pytest.mark.parametrize("num_samples", [1, 5000, 20_000])
def test_the_mask_is_that_of_one_pass_however_long_the_song(num_samples: int) -> None:
    model, x = network(), magnitude(song(2, num_samples))
    mask = Separator(model, SPEC, chunk_frames=8).mask(x)
    np.testing.assert_allclose(mask, model(torch.from_numpy(x)[None])[0].numpy(), atol=1e-5)


def test_an_unlimited_look_ahead_goes_by_chunks() -> None:
    model, x = network(look_ahead_frames=-1), magnitude(song(2, 3000))
    mask = Separator(model, SPEC, chunk_frames=8, overlap=0).mask(x)
    np.testing.assert_allclose(mask[:, :, :8], model(torch.from_numpy(x[:, :, :8])[None])[0].numpy(), atol=1e-5)
    assert np.abs(mask - model(torch.from_numpy(x)[None])[0].numpy()).max() > 1e-4


def test_a_mono_song_is_a_stereo_one_with_equal_sides() -> None:
    model, x = network(), magnitude(song(1, 5000))
    both = model(torch.from_numpy(x)[None].expand(-1, 2, -1, -1))[0].mean(dim=0, keepdim=True)
    np.testing.assert_allclose(Separator(model, SPEC).mask(x), both.numpy(), atol=1e-5)


def test_a_mono_network_hears_the_sides_one_by_one() -> None:
    model, x = network(num_channels=1), magnitude(song(2, 5000))
    sides = [model(torch.from_numpy(side)[None, None])[0, 0].numpy() for side in x]
    np.testing.assert_allclose(Separator(model, SPEC, num_channels=1).mask(x), np.stack(sides), atol=1e-5)


def test_stems_sum_to_the_mixture_and_progress_ends_with_the_song() -> None:
    mixture = Waveform(samples=song(2, 30_000), sample_rate=11025)
    seen: list[tuple[float, float | None]] = []
    stems = Separator(network(), SPEC).separate(mixture, on_progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(stems.vocals.samples + stems.instrumental.samples, mixture.samples, atol=1e-6)
    assert np.abs(stems.vocals.samples).max() > 0.01
    assert len(seen) > 1
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


def test_broken_weights_are_told() -> None:
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(JobError, match="masks that are not numbers"):
        Separator(model, SPEC).mask(magnitude(song(2, 5000)))


def test_bfloat16_gives_nearly_the_same_mask() -> None:
    model, x = network(), magnitude(song(2, 5000))
    exact, fast = (Separator(model, SPEC, precision=precision).mask(x) for precision in ("float32", "bfloat16"))
    assert fast.dtype == np.float32
    difference = np.abs(exact - fast)
    assert 0 < difference.mean() < 0.01
