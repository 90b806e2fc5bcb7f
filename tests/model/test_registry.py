"""What every architecture in the registry owes the rest of vrtool, and that a new one needs but its line there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, ClassVar

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import read_audio
from vrtool.dataset.cache import Cache
from vrtool.errors import InputError, RecipeError
from vrtool.model import ModelConfig, Network, build_model
from vrtool.model.checkpoint import Checkpoint, load_checkpoint, load_model, save_checkpoint
from vrtool.model.masking import masked_l1_loss
from vrtool.model.registry import ARCHITECTURES
from vrtool.recipe import parse_recipe

SETTINGS = {field.name for field in fields(ModelConfig)} - {"architecture"}
SMALL = ModelConfig(
    n_fft=256,
    channels=2,
    num_bands=2,
    feedforward_dim=12,
    num_encoders=1,
    num_decoders=1,
    crop_frames=10,
    dropout=0.2,
    look_ahead_frames=3,
)
STFT = StftSpec(sample_rate=8000, n_fft=256, hop_length=128)

every_architecture = pytest.mark.parametrize("config", [
    pytest.param(replace(SMALL, architecture=name), id=name) for name in ARCHITECTURES
])  # fmt: skip


def magnitudes(num_frames: int = 10, *, batch: int = 2, num_channels: int = 2) -> Tensor:
    return torch.rand(batch, num_channels, SMALL.num_bins, num_frames)


@torch.inference_mode()
def masked(network: Network, magnitude: Tensor) -> Tensor:
    return network.eval()(magnitude)


def trained_a_little(config: ModelConfig) -> Network:
    """A network whose statistics and weights are not those it began with."""
    network = build_model(config)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(2):
        mixture = magnitudes()
        instrumental = mixture * torch.rand_like(mixture)
        optimiser.zero_grad()
        masked_l1_loss(network.training_mask(mixture, instrumental), mixture, instrumental).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network


@every_architecture
@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("num_frames", [1, 2, 10, 67])
def test_a_mask_has_the_shape_of_the_magnitudes_and_lies_between_0_and_1(
    config: ModelConfig, num_channels: int, num_frames: int
) -> None:
    network = build_model(replace(config, num_channels=num_channels))
    assert network.requires_frames is None
    for batch in (1, 3):
        magnitude = magnitudes(num_frames, batch=batch, num_channels=num_channels)
        mask = masked(network, magnitude)
        assert mask.shape == magnitude.shape
        assert mask.dtype == torch.float32
        assert 0.0 <= mask.min() < mask.max() <= 1.0


@every_architecture
@pytest.mark.parametrize("num_frames", [1, 67])
def test_every_parameter_learns_from_a_single_crop_of_any_length(config: ModelConfig, num_frames: int) -> None:
    network = build_model(replace(config, dropout=0.0))
    mixture = magnitudes(num_frames, batch=1)
    instrumental = mixture * torch.rand_like(mixture)
    masked_l1_loss(network.training_mask(mixture, instrumental), mixture, instrumental).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@every_architecture
def test_magnitudes_of_another_shape_are_refused(config: ModelConfig) -> None:
    network = build_model(config)
    for wrong in (magnitudes()[0], magnitudes(num_channels=1), magnitudes()[:, :, 1:]):
        with pytest.raises(InputError, match=r"takes magnitudes \(batch, 2, 129, frames\), found "):
            masked(network, wrong)


@every_architecture
def test_the_top_bin_repeats_the_one_below_it_and_is_not_looked_at(config: ModelConfig) -> None:
    network, magnitude = trained_a_little(config), magnitudes()
    changed = magnitude.clone()
    changed[:, :, -1] = 0.0
    mask = masked(network, magnitude)
    assert torch.equal(mask[:, :, -1], mask[:, :, -2])
    assert torch.equal(mask, masked(network, changed))


@every_architecture
def test_in_evaluation_nothing_is_left_to_chance(config: ModelConfig) -> None:
    network, magnitude = trained_a_little(config), magnitudes()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert torch.equal(masked(network, magnitude), masked(network, magnitude))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@every_architecture
def test_songs_of_a_batch_are_separated_each_on_its_own(config: ModelConfig) -> None:
    network, magnitude = trained_a_little(config), magnitudes(batch=3)
    together = masked(network, magnitude)
    for index in range(3):
        alone = masked(network, magnitude[index : index + 1])
        # Products of other sizes add in another order.
        torch.testing.assert_close(together[index : index + 1], alone, rtol=0.0, atol=1e-5)


@every_architecture
def test_no_frames_are_refused(config: ModelConfig) -> None:
    with pytest.raises(InputError, match="takes magnitudes"):
        build_model(config)(magnitudes()[..., :0])


@every_architecture
def test_memory_in_the_caches_order_gives_the_same_mask(config: ModelConfig) -> None:
    network, magnitude = trained_a_little(config), magnitudes()
    time_major = magnitude.transpose(2, 3).contiguous().transpose(2, 3)
    torch.testing.assert_close(masked(network, magnitude), masked(network, time_major), rtol=0.0, atol=1e-6)


@every_architecture
def test_a_stream_gives_the_mask_of_the_whole_or_is_refused(config: ModelConfig) -> None:
    network, magnitude = trained_a_little(config).eval(), magnitudes(12)
    if network.look_ahead_frames is None:
        with pytest.raises(InputError, match=f"architecture '{config.architecture}' looks at all frames at once"):
            network.open_stream()
        return
    stream = network.open_stream()
    masks = [stream.push(frames) for frames in (magnitude[..., :5], magnitude[..., 5:10], magnitude[..., 10:])]
    assert masks[0].shape[3] == 5 - network.look_ahead_frames
    streamed = torch.cat([*masks, stream.finish()], dim=3)
    torch.testing.assert_close(streamed, masked(network, magnitude), rtol=0.0, atol=1e-5)


@every_architecture
def test_a_checkpoint_gives_the_same_mask_bit_for_bit(config: ModelConfig, tmp_path: Path) -> None:
    network, magnitude = trained_a_little(config), magnitudes()
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, Checkpoint(weights=network.state_dict(), model=config, stft=STFT))
    assert torch.equal(masked(load_model(path), magnitude), masked(network, magnitude))
    loaded = load_checkpoint(path).model
    settings = ARCHITECTURES[config.architecture].settings
    assert {name: getattr(loaded, name) for name in settings} == {name: getattr(config, name) for name in settings}
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["vrtool"])["model"].keys() == settings | {"architecture"}


class RecordingConfig(ModelConfig):
    """Notes which settings are read."""

    read: ClassVar[set[str]] = set()

    def __getattribute__(self, name: str) -> Any:
        if name in SETTINGS:
            RecordingConfig.read.add(name)
        return super().__getattribute__(name)


@every_architecture
def test_a_networks_settings_are_those_that_it_reads(config: ModelConfig) -> None:
    config = replace(config, own_past_share=0.5, true_past_share=0.25)  # each kind of past within a few batches
    recording = RecordingConfig(**{name: getattr(config, name) for name in SETTINGS}, architecture=config.architecture)
    RecordingConfig.read.clear()
    network = build_model(recording)
    torch.manual_seed(0)
    for _ in range(6):
        network.training_mask(magnitudes(), magnitudes())
    masked(network, magnitudes())
    assert RecordingConfig.read == network.settings
    assert {"num_channels", "n_fft"} <= network.settings


@every_architecture
def test_a_recipe_with_a_setting_that_the_architecture_does_not_read_is_refused(config: ModelConfig) -> None:
    name = config.architecture
    for setting in sorted(SETTINGS - ARCHITECTURES[name].settings):
        value = json.dumps(getattr(config, setting))
        with pytest.raises(
            RecipeError, match=rf"^my\.toml: \[model\] {setting} means nothing to architecture '{name}'"
        ):
            parse_recipe(f"[model]\narchitecture = '{name}'\n{setting} = {value}\n", origin="my.toml")


class GainPerBin(Network):
    """The smallest network that can learn anything: a fixed share of every bin."""

    settings = frozenset({"num_channels", "n_fft"})

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.logits = nn.Parameter(torch.zeros(config.num_bins, 1))

    def forward(self, magnitude: Tensor) -> Tensor:
        """Return the mask (B, C, F, T) from magnitudes of the same shape."""
        self.require_shape(magnitude)
        return self.logits.sigmoid().expand_as(magnitude)


def test_another_network_is_one_line_in_the_registry(
    small_cache: Cache,
    small_library: Path,
    vrtool: Callable[..., CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def printed(*words: object) -> str:
        done = vrtool(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    monkeypatch.setitem(ARCHITECTURES, "gain_per_bin", GainPerBin)
    recipe, run, stems = tmp_path / "recipe.toml", tmp_path / "run", tmp_path / "stems"
    recipe.write_text(
        '[model]\narchitecture = "gain_per_bin"\nn_fft = 256\n'
        "[training]\nnum_steps = 4\nbatch_size = 2\ncrop_frames = 16\nwarmup_steps = 0\nlearning_rate = 0.1\n"
        "num_validation_examples = 0\nnum_loader_workers = 0\ncheckpoint_every_steps = 2\n",
        encoding="utf-8",
    )
    printed("train", recipe, "--cache", small_cache.path, "--output", run)
    printed("train", recipe, "--cache", small_cache.path, "--output", run, "--resume", "--set", "training.num_steps=5")
    network = load_model(run)
    assert isinstance(network, GainPerBin)
    assert network.logits.abs().max() > 0.1

    song = small_library / "pairs" / "stereo" / "mixture.wav"
    printed("separate", song, "--model", run, "--output", stems)
    mixture = read_audio(song).samples
    vocals, instrumental = (
        read_audio(stems / "mixture" / f"{stem}.wav").samples for stem in ("vocals", "instrumental")
    )
    torch.testing.assert_close(torch.from_numpy(vocals + instrumental), torch.from_numpy(mixture), rtol=0, atol=1e-6)
    assert "stereo" in printed("evaluate", small_library / "pairs", "--model", run)


def test_an_architecture_that_nobody_registered_is_refused_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"'gain_per_bin' is not known; choose one of .*frame_transformer.*unet"):
        build_model(replace(SMALL, architecture="gain_per_bin"))
