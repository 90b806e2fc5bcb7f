"""The U-Net: the paper's sizes, silence after the last frame, learning. What all networks share: test_registry.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vrtool.errors import RecipeError
from vrtool.model import ModelConfig, Network, build_model
from vrtool.model.unet import DecoderLayer, EncoderLayer, UNet

PAPER = ModelConfig(architecture="unet", num_channels=1, n_fft=1024, channels=16, dropout=0.5, compression=1.0)
TINY = replace(PAPER, num_channels=2, n_fft=256, channels=2)


def test_a_patch_of_the_paper_passes_layers_of_its_sizes() -> None:
    network, shapes = UNet(PAPER), list[tuple[int, ...]]()
    for module in network.modules():
        if isinstance(module, EncoderLayer | DecoderLayer):
            module.register_forward_hook(lambda _, __, y: shapes.append(tuple(y.shape[1:])))
    network(torch.rand(2, 1, 513, 128))
    # Feature maps, bins, frames, as in section 3.1 and figure 1.
    down = [(16, 256, 64), (32, 128, 32), (64, 64, 16), (128, 32, 8), (256, 16, 4), (512, 8, 2)]
    assert shapes == [*down, *reversed(down[:-1])]
    kernels = [module.kernel_size for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    assert kernels == [(5, 5)] * 12


def test_the_first_three_layers_of_the_way_up_drop_features() -> None:
    layers = [module for module in UNet(PAPER).modules() if isinstance(module, DecoderLayer)]
    assert [layer.dropout.p for layer in layers] == [0.5, 0.5, 0.5, 0.0, 0.0]


def test_dropout_is_drawn_in_training_only() -> None:
    network, magnitude = UNet(TINY), torch.rand(2, 2, 129, 70)
    assert not torch.equal(network(magnitude), network(magnitude))
    network.eval()
    assert torch.equal(network(magnitude), network(magnitude))


@pytest.mark.parametrize(("num_frames", "padded_frames"), [(1, 64), (64, 64), (65, 128), (100, 128)])
def test_silence_fills_the_frames_up_to_what_can_be_halved(num_frames: int, padded_frames: int) -> None:
    network = UNet(TINY).eval()
    magnitude = torch.rand(1, 2, 129, num_frames)
    filled = functional.pad(magnitude, (0, padded_frames - num_frames))
    with torch.inference_mode():
        expected = network(filled)[..., :num_frames]
        torch.testing.assert_close(network(magnitude), expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("silenced", range(5))
def test_every_skip_is_joined(silenced: int) -> None:
    network = UNet(TINY).eval()
    decoder = network.decoders[silenced]
    assert isinstance(decoder, DecoderLayer)
    nn.init.zeros_(decoder.norm.weight)
    network(torch.rand(1, 2, 129, 64)).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [module.convolution.weight.grad for module in network.modules() if isinstance(module, EncoderLayer)]
    reached = [gradient is not None and bool(gradient.any()) for gradient in gradients]
    # The encoder layers whose features pass by the silenced layer, not through it, are seen still.
    assert reached == [True] * (5 - silenced) + [False] * (1 + silenced)


@pytest.mark.parametrize("n_fft", [128, 192, 1000, 1088])
def test_bins_that_cannot_be_halved_six_times_are_refused(n_fft: int) -> None:
    with pytest.raises(RecipeError, match=rf"n_fft must be a multiple of 128 from 256 on, .* found {n_fft}; 1024 is"):
        build_model(replace(PAPER, n_fft=n_fft))


def test_bands_that_it_does_not_have_hinder_nothing() -> None:
    assert build_model(replace(TINY, num_bands=7)).eval()(torch.rand(1, 2, 129, 3)).shape == (1, 2, 129, 3)


def test_compression_spreads_quiet_magnitudes() -> None:
    spread, plain = UNet(replace(TINY, compression=0.5)).eval(), UNet(TINY).eval()
    plain.load_state_dict(spread.state_dict())
    magnitude = torch.rand(1, 2, 129, 10)
    torch.testing.assert_close(spread(magnitude), plain(magnitude.sqrt()))


def test_it_overfits_one_batch(overfit: Callable[[Network, Tensor, int], float]) -> None:
    network = UNet(replace(TINY, channels=4, dropout=0.0, compression=0.3))
    assert overfit(network, torch.rand(1, 2, 129, 64) * 0.01, 60) < 0.1
