"""What a shift of the input in time does to the whole network: it shifts the output, away from the borders.

Attention looks at all frames there are, so that a song's end is felt everywhere. In a periodic song, though, a shift by
a period takes nothing out of view and brings nothing in: it only carries one period from far ahead to far behind.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from vrtool.model import ModelConfig, Network, build_model
from vrtool.model.attention import MultibandFrameAttention
from vrtool.model.config import Position
from vrtool.model.position import RelativePosition, RotaryPosition

PERIOD_FRAMES = 32
NUM_FRAMES = 20 * PERIOD_FRAMES
# Distances from 7 frames on are one to `relative` with tables for 8.
TABLE_FRAMES = 8
# How far a border reaches through five encoder blocks and five decoder blocks: an attention passes on 7 frames and its
# convolution 1, the encoder's branches 1 + 4, the decoder's 5 + 3, and there are 1 and 3 attentions in a row.
BORDER_FRAMES = 5 * (8 + 5) + 5 * (3 * 8 + 8)

CONFIG = ModelConfig(
    num_channels=1,
    n_fft=64,
    channels=2,
    num_bands=2,
    feedforward_dim=12,
    num_encoders=1,
    num_decoders=1,
    crop_frames=TABLE_FRAMES,
    dropout=0.0,
    compression=1.0,
)


def choosy(network: Network) -> Network:
    """The network, in doubles, with frames that weigh position and content more than they do before training."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, MultibandFrameAttention):
                module.query.linear.weight.mul_(3.0)
            if isinstance(module, RelativePosition):
                nn.init.normal_(module.table)
                # Far is far: what a shift by a period carries from one end to the other shall look the same from there.
                module.table[-1] = module.table[0]
    return network.double().eval()


@torch.inference_mode()
def logits(network: Network, magnitude: Tensor) -> Tensor:
    return network(magnitude).logit()


def change_by_a_period(position: Position, crop_frames: int) -> float:
    """The largest change of what the network says a period later, as a share of what its logits vary at all."""
    network = choosy(build_model(replace(CONFIG, position=position, crop_frames=crop_frames)))
    song = torch.rand(1, 1, 33, PERIOD_FRAMES, dtype=torch.float64).repeat(1, 1, 1, NUM_FRAMES // PERIOD_FRAMES)
    said = logits(network, song)[..., BORDER_FRAMES:-BORDER_FRAMES]
    return float((said[..., PERIOD_FRAMES:] - said[..., :-PERIOD_FRAMES]).abs().max() / said.std())


def test_relative_position_a_shift_shifts_the_mask_exactly() -> None:
    assert change_by_a_period("relative", TABLE_FRAMES) < 1e-12


def test_rotary_position_a_shift_shifts_the_mask_but_for_what_changes_sides() -> None:
    # One frame of twenty has come to lie at another distance, none has gone.
    assert change_by_a_period("rotary", TABLE_FRAMES) < 4 / 20


def test_ancestor_position_a_shift_gives_another_mask() -> None:
    assert change_by_a_period("ancestor", NUM_FRAMES) > 1.0


def test_rotary_position_a_song_may_begin_at_any_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    network = choosy(build_model(replace(CONFIG, position="rotary")))
    song = torch.rand(1, 1, 33, 100, dtype=torch.float64)
    at_zero = logits(network, song)
    rotation = RotaryPosition.rotation

    def later(rule: RotaryPosition, num_frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
        cosine, sine = rotation(rule, num_frames + 50, device)
        return cosine[50:], sine[50:]

    monkeypatch.setattr(RotaryPosition, "rotation", later)
    # Angles are float32: up to 150 radians they are right to 1e-5.
    torch.testing.assert_close(logits(network, song), at_zero, rtol=0.0, atol=1e-4)
    monkeypatch.setattr(RotaryPosition, "rotation", lambda *arguments: [2 * part for part in rotation(*arguments)])
    assert (logits(network, song) - at_zero).abs().max() > 1e-2  # rotations are what was looked at
