"""The scripts beside the recipe of the weights in the box."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import Waveform, read_audio, write_audio
from vrtool.model import ModelConfig
from vrtool.model.checkpoint import Checkpoint, load_checkpoint, load_model, save_checkpoint
from vrtool.model.registry import build_model

RECIPES = Path(__file__).parents[1] / "recipes" / "builtin"


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RECIPES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def speeds(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return script("speeds.py", *arguments)


def write_song(path: Path, *, level: float = 0.5, sample_rate: int = 8000) -> Waveform:
    rng = np.random.default_rng(len(path.name))
    samples = (level * rng.uniform(-1.0, 1.0, (1, 4000))).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, Waveform(samples=samples, sample_rate=sample_rate))
    return read_audio(path)


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_songs_are_copied_at_other_rates_but_for_those_left_out_and_for_copies(tmp_path: Path) -> None:
    song = write_song(tmp_path / "voices" / "Mr. Smith.wav")
    write_song(tmp_path / "voices" / "kept.flac", sample_rate=88200)
    write_song(tmp_path / "voices" / "high.flac", sample_rate=88200)
    for _ in range(2):
        done = speeds(tmp_path / "voices", tmp_path / "voices", "--speeds", "0.89", "1.12", "--leave-out", "kept")
        assert (done.returncode, done.stderr) == (0, "")
    copies = [f"{name}_x{speed}.flac" for name in ("Mr. Smith", "high") for speed in ("0.89", "1.12")]
    assert names_in(tmp_path / "voices") == sorted(["Mr. Smith.wav", "high.flac", "kept.flac", *copies])
    copy = read_audio(tmp_path / "voices" / "Mr. Smith_x1.12.flac")
    assert copy.sample_rate == 8960
    np.testing.assert_allclose(copy.samples, song.samples, atol=2e-7)
    assert read_audio(tmp_path / "voices" / "high_x1.12.flac").sample_rate == 98780


def test_the_halves_of_a_pair_keep_their_balance(tmp_path: Path) -> None:
    halves = {
        stem: write_song(tmp_path / "pairs" / "Vol. 1" / f"{stem}.wav", level=level)
        for stem, level in (("vocals", 0.5), ("instrumental", 1.6))
    }
    assert speeds(tmp_path / "pairs", tmp_path / "more", "--speeds", "1.12").returncode == 0
    assert names_in(tmp_path / "more") == ["Vol. 1_x1.12/instrumental.flac", "Vol. 1_x1.12/vocals.flac"]
    loudest = np.abs(halves["instrumental"].samples).max()
    for stem, half in halves.items():
        copy = read_audio(tmp_path / "more" / "Vol. 1_x1.12" / f"{stem}.flac")
        np.testing.assert_allclose(copy.samples, half.samples / loudest, atol=3e-7)


@pytest.mark.parametrize(("leave_out", "folder", "told"), [
    (("--leave-out", "nobody"), "song", "has none of nobody"),
    ((), "album/song", "expected a song folder, found one with folders"),
])  # fmt: skip
def test_what_fits_no_library_is_told(tmp_path: Path, leave_out: tuple[str, ...], folder: str, told: str) -> None:
    write_song(tmp_path / "pairs" / folder / "vocals.wav")
    done = speeds(tmp_path / "pairs", tmp_path / "more", "--speeds", "1.12", *leave_out)
    assert told in done.stderr
    assert done.returncode == (0 if leave_out else 1)


# Of a small network, and of what it is to grow to.
Sizes = tuple[int, int, int]


def frame_transformer(sizes: Sizes) -> ModelConfig:
    channels, num_encoders, num_decoders = sizes
    return ModelConfig(
        n_fft=128,
        channels=channels,
        num_encoders=num_encoders,
        num_decoders=num_decoders,
        num_bands=2,
        feedforward_dim=16,
        dropout=0.0,
    )


def save_network(path: Path, config: ModelConfig) -> None:
    network = build_model(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value in (module.running_mean, module.running_var, module.weight, module.bias):
                assert value is not None
                torch.nn.init.uniform_(value, 0.5, 1.5)
    stft = StftSpec(sample_rate=8000, n_fft=config.n_fft, hop_length=64)
    save_checkpoint(path, Checkpoint(weights=network.state_dict(), model=config, stft=stft, card={"name": "small"}))


@pytest.mark.parametrize(("before", "after"), [((2, 1, 0), (2, 1, 1)), ((1, 2, 1), (2, 3, 3))])
def test_a_grown_network_gives_the_same_masks_and_learns_with_all_that_is_new(
    tmp_path: Path, before: Sizes, after: Sizes
) -> None:
    save_network(tmp_path / "small.safetensors", frame_transformer(before))
    names = ("channels", "num-encoders", "num-decoders")
    options = [f"--{name}={size}" for name, size in zip(names, after, strict=True)]
    done = script("grow.py", tmp_path / "small.safetensors", tmp_path / "grown.safetensors", *options)
    assert (done.returncode, done.stderr) == (0, "")
    small, grown = load_model(tmp_path / "small.safetensors"), load_model(tmp_path / "grown.safetensors")
    assert grown.config == frame_transformer(after)
    assert load_checkpoint(tmp_path / "grown.safetensors").card == {}
    magnitude = torch.rand(2, 2, 65, 20)
    torch.testing.assert_close(grown(magnitude), small(magnitude), rtol=0.0, atol=1e-6)

    grown.train()
    optimiser = torch.optim.SGD(grown.parameters(), lr=1e-2)
    # The first step lets the old hear the new, the second teaches the new.
    for _ in range(2):
        optimiser.zero_grad()
        loss = grown(magnitude).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for name, weight in grown.named_parameters():
        assert weight.grad is not None
        assert weight.grad.any(), name
        if name.endswith(("convolution.weight", "bottleneck.weight")) or name == "output.weight":
            made, heard = (weight.grad.transpose(0, axis).flatten(1).any(dim=1) for axis in (0, 1))
            assert made.all(), name
            assert heard.all(), name


@pytest.mark.parametrize(("config", "option", "told"), [
    (frame_transformer((2, 1, 0)), "--num-encoders=0", "networks only grow, num_encoders must be 1 or more, found 0"),
    (frame_transformer((2, 1, 0)), "--channels=2", "nothing grows"),
    (ModelConfig(architecture="unet", n_fft=256, channels=2), "--channels=4", "found architecture 'unet'"),
])  # fmt: skip
def test_what_cannot_grow_is_told(tmp_path: Path, config: ModelConfig, option: str, told: str) -> None:
    save_network(tmp_path / "small.safetensors", config)
    done = script("grow.py", tmp_path / "small.safetensors", tmp_path / "grown.safetensors", option)
    assert done.returncode == 1
    assert told in done.stderr
    assert not (tmp_path / "grown.safetensors").exists()
