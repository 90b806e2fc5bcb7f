"""The frame transformer as a whole: shapes, settings, gradients, learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from vrtool.errors import InputError, RecipeError
from vrtool.model import ModelConfig, Network, build_model
from vrtool.model.config import Norm, Position
from vrtool.model.masking import masked_l1_loss

TINY = ModelConfig(
    n_fft=64,
    channels=2,
    num_bands=2,
    feedforward_dim=12,
    num_encoders=1,
    num_decoders=1,
    crop_frames=10,
    dropout=0.0,
)
POSITIONS: tuple[Position, ...] = ("relative", "rotary", "ancestor")
NORMS: tuple[Norm, ...] = ("pre", "post")


def magnitudes(num_frames: int = 10, config: ModelConfig = TINY, batch: int = 2) -> Tensor:
    return torch.rand(batch, config.num_channels, config.num_bins, num_frames)


@pytest.mark.parametrize(("position", "norm"), list(product(POSITIONS, NORMS)))
def test_the_mask_has_the_shape_of_the_magnitudes_and_lies_between_0_and_1(position: Position, norm: Norm) -> None:
    network = build_model(replace(TINY, position=position, norm=norm)).eval()
    with torch.inference_mode():
        mask = network(magnitudes())
    assert mask.shape == (2, 2, 33, 10)
    assert mask.dtype == torch.float32
    assert 0.0 < mask.min() < mask.max() < 1.0


@pytest.mark.parametrize(("encoders", "decoders"), [(0, 0), (0, 2), (2, 0), (1, 3)])
def test_any_number_of_blocks_builds_a_network(encoders: int, decoders: int) -> None:
    network = build_model(replace(TINY, num_encoders=encoders, num_decoders=decoders, num_channels=1)).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 1, 33, 3)).shape == (1, 1, 33, 3)


def test_the_top_bin_repeats_the_one_below_it_and_is_not_looked_at() -> None:
    network = build_model(TINY).eval()
    x = magnitudes()
    changed = x.clone()
    changed[:, :, -1] = 0.0
    with torch.inference_mode():
        mask = network(x)
        assert torch.equal(mask[:, :, -1], mask[:, :, -2])
        assert torch.equal(mask, network(changed))


def test_views_of_time_major_memory_give_the_same_mask() -> None:
    network = build_model(TINY).eval()
    x = magnitudes()
    view = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert not view.is_contiguous()
    with torch.inference_mode():
        assert torch.equal(network(x), network(view))


@pytest.mark.parametrize("position", ["relative", "rotary"])
@pytest.mark.parametrize("num_frames", [1, 2, 31])
def test_any_number_of_frames_will_do(position: Position, num_frames: int) -> None:
    network = build_model(replace(TINY, position=position)).eval()
    assert network.requires_frames is None
    with torch.inference_mode():
        assert network(magnitudes(num_frames)).shape == (2, 2, 33, num_frames)


def test_ancestor_position_requires_exactly_its_frames() -> None:
    network = build_model(replace(TINY, position="ancestor"))
    assert network.requires_frames == 10
    with pytest.raises(InputError, match=r"takes magnitudes \(batch, 2, 33, 10\), found \(2, 2, 33, 11\)"):
        network(magnitudes(11))


def test_magnitudes_of_another_shape_are_refused() -> None:
    network = build_model(TINY)
    with pytest.raises(InputError, match=r"takes magnitudes \(batch, 2, 33, frames\), found \(2, 33, 10\)"):
        network(magnitudes()[0])
    with pytest.raises(InputError, match=r"found \(1, 2, 65, 10\)"):
        network(torch.rand(1, 2, 65, 10))


def test_without_blocks_no_information_passes_between_frames() -> None:
    network = build_model(replace(TINY, num_encoders=0, num_decoders=0)).eval()
    x = magnitudes()
    changed = x.clone()
    changed[..., 4] = 1.0
    with torch.inference_mode():
        differs = (network(x) != network(changed)).any(dim=2).any(dim=1).any(dim=0)
    assert differs.tolist() == [frame == 4 for frame in range(10)]


@pytest.mark.parametrize("encoders_decoders", [(1, 0), (0, 1)])
def test_with_blocks_every_frame_sees_every_other(encoders_decoders: tuple[int, int]) -> None:
    num_encoders, num_decoders = encoders_decoders
    network = build_model(replace(TINY, num_encoders=num_encoders, num_decoders=num_decoders)).eval().double()
    x = magnitudes(40).double()
    changed = x.clone()
    changed[..., 0] = 1.0
    with torch.inference_mode():
        assert (network(x) != network(changed)).any(dim=2).any(dim=1).all()


@pytest.mark.parametrize(("position", "norm"), list(product(POSITIONS, NORMS)))
def test_gradients_reach_every_parameter(position: Position, norm: Norm) -> None:
    config = replace(TINY, position=position, norm=norm, num_encoders=2, num_decoders=2)
    network = build_model(config)
    mixture = magnitudes(config=config)
    masked_l1_loss(network(mixture), mixture, mixture * torch.rand_like(mixture)).backward()  # type: ignore[no-untyped-call]
    unreached = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    # What a bias adds to every key alike leaves the shares unchanged, and a band of one bin has nothing to turn, so
    # the gradient there is rounding, which may be exactly zero.
    assert [name for name in unreached if ".key." not in name] == []


def test_it_overfits_one_batch(overfit: Callable[[Network, Tensor, int], float]) -> None:
    assert overfit(build_model(replace(TINY, channels=4)), magnitudes(batch=1) * 0.01, 25) < 0.02


def test_dropout_is_drawn_in_training_only() -> None:
    network = build_model(replace(TINY, dropout=0.5))
    x = magnitudes()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_compression_spreads_quiet_magnitudes() -> None:
    state = build_model(TINY).state_dict()
    plain, compressed = build_model(replace(TINY, compression=1.0)), build_model(replace(TINY, compression=0.5))
    plain.load_state_dict(state)
    compressed.load_state_dict(state)
    x = magnitudes()
    torch.testing.assert_close(compressed.eval()(x), plain.eval()(x.sqrt()))


def test_an_unknown_architecture_is_refused_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"'frame_tansformer' is not known; choose one of .*frame_transformer"):
        build_model(replace(TINY, architecture="frame_tansformer"))
