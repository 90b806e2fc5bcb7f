"""A checkpoint is all that separation needs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.audio.waveform import Waveform
from vrtool.errors import CheckpointError, InputError
from vrtool.model import build_model
from vrtool.model.checkpoint import checkpoint_model, load_checkpoint
from vrtool.model.config import ModelConfig
from vrtool.separation.separator import DEFAULT_CHUNK_FRAMES, Separator

CONFIG = ModelConfig(
    n_fft=256, channels=1, num_bands=4, feedforward_dim=8, num_encoders=0, num_decoders=1, crop_frames=32
)
STFT = StftSpec(sample_rate=8000, n_fft=256, hop_length=128)


@pytest.fixture
def run_folder(tmp_path: Path, save_network: Callable[..., Path]) -> Path:
    return save_network(tmp_path / "best.safetensors", CONFIG).parent


def test_a_run_folder_separates_with_its_best_network_and_settings(run_folder: Path) -> None:
    separator = Separator.from_checkpoint(run_folder, device="cpu")
    assert separator.stft == STFT
    assert separator.chunk_frames == DEFAULT_CHUNK_FRAMES
    samples = np.random.default_rng(0).standard_normal((2, 30 * 128)).astype(np.float32)
    stems = separator.separate(Waveform(samples=samples, sample_rate=8000))
    spectrogram = stft(samples, STFT)
    magnitude = np.abs(spectrogram)
    network = checkpoint_model(load_checkpoint(run_folder / "best.safetensors"))
    with torch.inference_mode():
        mask = network(torch.from_numpy(magnitude / magnitude.max())[None])[0].numpy()
    # One chunk holds the song, so the mask is the network's own; the vocals are what it leaves of the mixture.
    expected = np.abs((1 - mask) * spectrogram)
    error = np.abs(stft(stems.vocals.samples, STFT)) - expected
    # To what an inverse STFT makes of a spectrogram that no signal has, a small share of it.
    assert np.square(error).sum() < 0.1 * np.square(expected).sum()
    np.testing.assert_allclose(separator.mask(magnitude / magnitude.max()), mask, atol=1e-6)


def test_a_song_of_many_chunks_passes_a_real_network(run_folder: Path) -> None:
    samples = np.random.default_rng(0).standard_normal((1, 100 * 128)).astype(np.float32)
    stems = Separator.from_checkpoint(run_folder, batch_size=2).separate(Waveform(samples=samples, sample_rate=8000))
    np.testing.assert_allclose(stems.vocals.samples + stems.instrumental.samples, samples, atol=1e-6)


def test_a_network_that_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="takes spectrograms of n_fft 256, found 512"):
        Separator(build_model(CONFIG), replace(STFT, n_fft=512))
    with pytest.raises(InputError, match="takes 2 channels, found 1"):
        Separator(build_model(CONFIG), STFT, num_channels=1)
    with pytest.raises(InputError, match="songs have 1 or 2 channels, found a network that takes 4"):
        Separator(build_model(replace(CONFIG, num_channels=4)), STFT)


def test_a_network_tells_its_channels() -> None:
    assert Separator(build_model(replace(CONFIG, num_channels=1)), STFT).num_channels == 1


def test_a_path_without_a_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        Separator.from_checkpoint(tmp_path / "nowhere")


def test_a_device_that_does_not_exist_is_refused_before_the_checkpoint_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--device gpu"):
        Separator.from_checkpoint(tmp_path / "nowhere", device="gpu")
