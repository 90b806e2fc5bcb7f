"""The autoregressive network: causal but for its look-ahead, and the same frame by frame as all frames at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vrtool.errors import InputError, RecipeError
from vrtool.model import ModelConfig, build_model
from vrtool.model.autoregressive import AutoregressiveFrameTransformer, _spoiled
from vrtool.model.autoregressive_stream import Stream
from vrtool.model.past import KeptPast, RollingMemory

# As many frames of memory as fit several times into the songs below: what is forgotten is part of the claims.
CONFIG = ModelConfig(
    architecture="autoregressive",
    channels=2,
    n_fft=128,
    num_bands=2,
    feedforward_dim=16,
    num_decoders=2,
    crop_frames=9,
    dropout=0.0,
    look_ahead_frames=3,
)


def network(**changes: Any) -> AutoregressiveFrameTransformer:
    torch.manual_seed(0)
    return cast(AutoregressiveFrameTransformer, build_model(replace(CONFIG, **changes)).eval())


def song(num_frames: int, *, batch_size: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(batch_size, 2, 65, num_frames, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("look_ahead_frames", [-1, 0, 1, 3, 50])
@pytest.mark.parametrize("num_frames", [1, 2, 31])
def test_frame_by_frame_with_kept_states_equals_all_frames_at_once(look_ahead_frames: int, num_frames: int) -> None:
    model, mixture = network(look_ahead_frames=look_ahead_frames), song(num_frames, batch_size=2)
    mask = model(mixture)
    with torch.no_grad():
        parallel = model.parallel_mask(mixture, mask * mixture)
    assert mask.shape == mixture.shape
    torch.testing.assert_close(mask, parallel, rtol=0, atol=1e-5)


def test_its_own_past_matters() -> None:
    model, mixture = network(), song(20)
    with torch.no_grad():
        other = model.parallel_mask(mixture, torch.zeros_like(mixture))
    assert (model(mixture) - other).abs().max() > 1e-3


@pytest.mark.parametrize("look_ahead_frames", [0, 1, 3, 7, 12])
def test_a_frame_depends_on_none_beyond_its_look_ahead_but_on_the_last_within(look_ahead_frames: int) -> None:
    model, mixture = network(look_ahead_frames=look_ahead_frames), song(24)
    changed = mixture.clone()
    changed[..., 15:] = song(9, seed=1)
    difference = (model(mixture) - model(changed)).abs().amax(dim=(0, 1, 2))
    first_that_hears = 15 - look_ahead_frames
    assert (difference[:first_that_hears] == 0).all()
    assert difference[first_that_hears] > 1e-6


def test_in_training_no_frame_knows_of_later_ones_through_statistics() -> None:
    model, mixture = network().train(), song(24, batch_size=2)
    changed = mixture.clone()
    changed[..., 15:] = 0.1 * song(9, seed=1)
    with torch.no_grad():
        masks = [model.parallel_mask(magnitude, 0.5 * magnitude) for magnitude in (mixture, changed)]
    torch.testing.assert_close(masks[0][..., :12], masks[1][..., :12], rtol=0, atol=1e-6)
    assert not list(model.buffers())


def test_with_unlimited_look_ahead_the_first_frame_hears_the_last() -> None:
    model, mixture = network(look_ahead_frames=-1), song(40)
    changed = mixture.clone()
    changed[..., -1] = 1.0
    assert (model(mixture) - model(changed))[..., 0].abs().max() > 1e-7
    assert model.look_ahead_frames is None
    with pytest.raises(InputError, match=r"'autoregressive' looks at all frames at once and cannot be streamed"):
        model.open_stream()


@settings(deadline=None, max_examples=6)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=8), st.integers(0, 5))
def test_a_stream_in_any_pieces_gives_the_masks_of_the_whole(pieces: list[int], look_ahead_frames: int) -> None:
    # In double precision, where sums in another order differ by next to nothing.
    model = network(look_ahead_frames=look_ahead_frames).double()
    mixture = song(sum(pieces) + 1).double()
    stream = model.open_stream()
    masks, num_pushed = [], 0
    for piece in torch.split(mixture, [*pieces, 1], dim=3):
        num_pushed += piece.shape[3]
        masks.append(stream.push(piece))
        assert sum(mask.shape[3] for mask in masks) == max(0, num_pushed - look_ahead_frames)
    mask = torch.cat([*masks, stream.finish()], dim=3)
    torch.testing.assert_close(mask, model(mixture), rtol=0, atol=1e-5)


def test_hours_into_a_song_the_masks_are_those_of_its_start() -> None:
    """Positions are relative, and precise far from the start: 24 hours have 3.7 million frames."""
    model, mixture = network(), song(30)
    stream = Stream(model, CONFIG.look_ahead_frames, first_frame=3_700_000)
    later = torch.cat([stream.push(mixture), stream.finish()], dim=3)
    torch.testing.assert_close(later, model(mixture), rtol=0, atol=1e-4)


def num_bytes(held: Any) -> int:
    """Return the bytes of all tensors that an object holds, however deep."""
    if isinstance(held, Tensor):
        return held.untyped_storage().nbytes()
    if isinstance(held, dict):
        return sum(map(num_bytes, held.values()))
    if isinstance(held, (list, tuple)) or type(held).__name__ == "deque":
        return sum(map(num_bytes, held))
    return num_bytes(vars(held)) if isinstance(held, (KeptPast, RollingMemory)) else 0


def test_what_a_stream_keeps_does_not_grow() -> None:
    model, mixture = network(num_decoders=1), song(100)
    stream = model.open_stream()
    sizes = []
    for frame in torch.split(mixture, 1, dim=3):
        stream.push(frame)
        sizes.append(num_bytes({name: held for name, held in vars(stream).items() if name != "_network"}))
    assert sizes[0] > 0
    assert max(sizes[60:]) <= max(sizes[20:60])


def test_a_song_in_a_stream_ends_without_frames_if_none_came() -> None:
    stream = network().open_stream()
    assert stream.push(song(0)).shape == (1, 2, 65, 0)
    assert stream.finish().shape == (1, 2, 65, 0)


def test_training_on_the_truth_shows_it_spoiled() -> None:
    model, mixture = network(own_past_share=0.0, true_past_share=1.0), song(20)
    instrumental = mixture * song(20, seed=1)
    torch.manual_seed(1)
    mask = model.training_mask(mixture, instrumental)
    torch.manual_seed(1)
    torch.rand(())  # which past it is this time
    expected = model.parallel_mask(mixture, _spoiled(mixture, instrumental))
    torch.testing.assert_close(mask, expected, rtol=0, atol=1e-6)


def test_training_on_its_own_past_shows_it_what_it_makes_of_the_mixture_alone() -> None:
    model, mixture = network(own_past_share=1.0, true_past_share=0.0), song(20)
    torch.manual_seed(1)
    mask = model.training_mask(mixture, mixture * song(20, seed=1))
    torch.manual_seed(1)
    torch.rand(())  # which past it is this time
    own = model.parallel_mask(mixture, torch.rand(1, 1, 1, 1) * mixture) * mixture
    torch.testing.assert_close(mask, model.parallel_mask(mixture, own), rtol=0, atol=1e-6)
    torch.manual_seed(1)
    assert (mask == model.training_mask(mixture, torch.zeros_like(mixture))).all()


def test_training_on_no_past_of_note_shows_it_a_share_of_the_mixture() -> None:
    model, mixture = network(own_past_share=0.0, true_past_share=0.0), song(20)
    torch.manual_seed(1)
    mask = model.training_mask(mixture, torch.zeros_like(mixture))
    torch.manual_seed(1)
    torch.rand(())  # which past it is this time
    expected = model.parallel_mask(mixture, torch.rand(1, 1, 1, 1) * mixture)
    torch.testing.assert_close(mask, expected, rtol=0, atol=1e-6)


def test_a_spoiled_past_is_another_for_each_example_and_lies_between_nothing_and_the_mixture() -> None:
    mixture = torch.ones(64, 2, 5, 3)
    torch.manual_seed(0)
    past = _spoiled(mixture, 0.5 * mixture)
    levels = past[:, 0, 0, 0]
    assert (past == levels.view(-1, 1, 1, 1)).all()
    assert ((levels >= 0) & (levels <= 1)).all()
    assert levels.min() < 0.25 < 0.75 < levels.max()
    assert ((levels - 0.5).abs() < 0.05).any()


@pytest.mark.parametrize("shares", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_every_weight_learns(shares: tuple[float, float]) -> None:
    own_past_share, true_past_share = shares
    model = network(own_past_share=own_past_share, true_past_share=true_past_share).train()
    mixture = song(20, batch_size=2)
    model.training_mask(mixture, 0.5 * mixture).square().mean().backward()  # type: ignore[no-untyped-call]
    assert not [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_it_learns_a_mask_and_keeps_to_it_on_its_own() -> None:
    """A mixture whose upper half is vocals: the free run must end where training did, not drift away."""
    torch.manual_seed(0)
    model = network(num_decoders=1, channels=4).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    share = torch.ones(1, 1, 65, 1)
    share[:, :, 32:] = 0.0
    for step in range(160):
        mixture = song(16, batch_size=2, seed=step)
        optimiser.zero_grad()
        loss = nn.functional.l1_loss(model.training_mask(mixture, share * mixture) * mixture, share * mixture)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    unseen = song(60, seed=-1)
    error = (model.eval()(unseen) - share).abs().mean(dim=(0, 1, 2))
    assert error.mean() < 0.1
    assert abs(error[30:].mean() - error[:30].mean()) < 0.01


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_bands": 3, "n_fft": 96}, r"even number of bins, found 1; halve num_bands = 3 or double n_fft = 96"),
        ({"num_bands": 3}, r"n_fft must be a multiple of 32 x num_bands = 96"),
        ({"look_ahead_frames": -2}, r"look_ahead_frames must be at least -1, found -2"),
        ({"own_past_share": -0.1}, r"must be shares of one whole, found \(-0.1, 0.1\)"),
    ],
)
def test_settings_that_make_no_network_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        network(**changes)


@pytest.mark.parametrize("shape", [(1, 2, 64, 5), (1, 1, 65, 5), (2, 65, 5)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"takes magnitudes \(batch, 2, 65, frames\)"):
        network()(torch.rand(shape))
    with pytest.raises(InputError, match=r"takes magnitudes \(batch, 2, 65, frames\)"):
        network().open_stream().push(torch.rand(shape))
