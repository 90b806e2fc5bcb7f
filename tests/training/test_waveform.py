"""The torch transforms of the losses, against the project's own STFT and against numerical gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.spectrogram import StftSpec, istft
from vrtool.audio.spectrogram import stft as stft_of
from vrtool.training.waveform import inverse_stft, stft

SPECS = [
    StftSpec(sample_rate=8000, n_fft=64, hop_length=32),
    StftSpec(sample_rate=8000, n_fft=64, hop_length=16),
    StftSpec(sample_rate=8000, n_fft=50, hop_length=11),  # the hop does not divide the window
    StftSpec(sample_rate=8000, n_fft=20, hop_length=1),
]


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex64)


@settings(max_examples=60, deadline=None)
@given(spec=st.sampled_from(SPECS), num_frames=st.integers(2, 40), seed=st.integers(0, 2**32 - 1))
def test_the_inverse_is_that_of_separation_from_the_first_sample_to_the_last(
    spec: StftSpec, num_frames: int, seed: int
) -> None:
    # Of what a mask makes: a spectrogram that no signal has.
    spectrogram = noise(seed, 3, 2, spec.num_bins, num_frames)
    num_samples = (num_frames - 1) * spec.hop_length
    expected = np.stack([istft(one, spec, num_samples) for one in spectrogram.numpy()])
    found = inverse_stft(spectrogram, spec).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_crop_from_the_middle_of_a_song_gives_its_samples_up_to_both_edges() -> None:
    spec = StftSpec(sample_rate=8000, n_fft=256, hop_length=128)
    samples = np.random.default_rng(0).standard_normal((2, 40 * 128)).astype(np.float32)
    crop = torch.from_numpy(stft_of(samples, spec)[..., 7:20])
    np.testing.assert_allclose(inverse_stft(crop, spec).numpy(), samples[:, 7 * 128 : 19 * 128], atol=1e-5)


@pytest.mark.parametrize("spec", SPECS[:3])
def test_gradients_of_the_inverse_are_those_of_small_differences(spec: StftSpec) -> None:
    spectrogram = noise(0, 1, 2, spec.num_bins, 3).to(torch.complex128).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: inverse_stft(x, spec), (spectrogram,))


@pytest.mark.parametrize(("n_fft", "hop"), [(16, 4), (20, 5), (16, 6)])
def test_spectrograms_of_signals_and_their_gradients(n_fft: int, hop: int) -> None:
    signal = noise(0, 2, 2, 50).real.double().requires_grad_()
    expected = torch.stft(
        signal.flatten(0, 1), n_fft, hop, window=torch.hann_window(n_fft, dtype=torch.float64), center=False,
        return_complex=True,
    )  # fmt: skip
    found = stft(signal, n_fft, hop)
    assert torch.allclose(found.flatten(0, 1).transpose(-1, -2), expected, atol=1e-6)
    assert torch.autograd.gradcheck(lambda x: stft(x, n_fft, hop), (signal,))
