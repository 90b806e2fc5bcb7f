"""Layers that keep frames apart, a few frames at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from vrtool.model import ModelConfig, build_model
from vrtool.model.convolution import Ascent, FrameConvolution
from vrtool.model.frame_slices import SLICE_FRAMES, frame_by_frame


class Counting(nn.Module):
    """A part that remembers how many frames it was given."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.num_frames: list[int] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        self.num_frames.append(inputs[0].shape[1])
        y: Tensor = self.part(*inputs)
        return y


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("num_frames", [1, SLICE_FRAMES, SLICE_FRAMES + 1, 3 * SLICE_FRAMES])
def test_slices_of_frames_give_what_all_frames_give(num_frames: int) -> None:
    convolution = Counting(FrameConvolution(3, 4, stride=2)).eval()
    ascent = Counting(Ascent(3, 2, 4)).eval()
    x, skip = torch.rand(2, num_frames, 8, 3), torch.rand(2, num_frames, 16, 2)
    with torch.inference_mode():
        torch.testing.assert_close(frame_by_frame(convolution, x), convolution.part(x), rtol=0, atol=1e-6)
        torch.testing.assert_close(frame_by_frame(ascent, x, skip), ascent.part(x, skip), rtol=0, atol=1e-6)
    assert max(convolution.num_frames + ascent.num_frames) <= SLICE_FRAMES
    assert sum(convolution.num_frames) == num_frames


@pytest.mark.parametrize("is_training", [False, True])
def test_what_has_a_gradient_or_statistics_is_computed_whole(is_training: bool) -> None:
    part = Counting(FrameConvolution(3, 4)).train(is_training)
    with torch.set_grad_enabled(not is_training):
        frame_by_frame(part, torch.rand(1, 2 * SLICE_FRAMES, 8, 3))
    assert part.num_frames == [2 * SLICE_FRAMES]


def test_masks_without_a_gradient_are_those_with_one() -> None:
    config = ModelConfig(
        n_fft=128, channels=1, num_bands=2, feedforward_dim=8, num_encoders=1, num_decoders=1, crop_frames=16
    )
    network = build_model(config).eval()
    magnitude = torch.rand(1, 2, 65, 2 * SLICE_FRAMES + 3)
    with torch.no_grad():
        mask = network(magnitude)
    torch.testing.assert_close(mask, network(magnitude).detach(), rtol=0, atol=1e-6)
