"""The three rules of position against their formulas, frame by frame, and what time shifts do to them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vrtool.model import ModelConfig
from vrtool.model.attention import MultibandFrameAttention
from vrtool.model.config import Position
from vrtool.model.position import AncestorPosition, RelativePosition, RotaryPosition


def by_formula(
    query: Tensor, key: Tensor, value: Tensor, logit: Callable[[Tensor, Tensor, int, int], Tensor]
) -> Tensor:
    """Attention of one band, query frame by query frame; `logit` sees query i, key j and where they stand."""
    gathered = []
    for i, q in enumerate(query):
        logits = torch.stack([logit(q, k, i, j) for j, k in enumerate(key)])
        gathered.append(torch.softmax(logits, dim=0) @ value)
    return torch.stack(gathered)


@pytest.mark.parametrize("num_frames", [1, 2, 5, 9])
def test_relative_position_follows_its_formula_and_clips_distances(num_frames: int) -> None:
    rule = RelativePosition(head_width=4, crop_frames=3)
    nn.init.normal_(rule.table)
    query, key, value = torch.randn(3, 2, 3, num_frames, 4)

    def logit(q: Tensor, k: Tensor, i: int, j: int) -> Tensor:
        distance = max(-2, min(2, j - i))
        return (q @ k + q @ rule.table[2 + distance]) / math.sqrt(4)

    gathered = rule(query, key, value)
    for example in range(2):
        for band in range(3):
            expected = by_formula(query[example, band], key[example, band], value[example, band], logit)
            torch.testing.assert_close(gathered[example, band], expected)


@pytest.mark.parametrize("head_width", [1, 2, 3, 8])
def test_rotary_position_follows_its_formula(head_width: int) -> None:
    query, key, value = torch.randn(3, 1, 1, 6, head_width)
    pairs = head_width // 2

    def logit(q: Tensor, k: Tensor, i: int, j: int) -> Tensor:
        # Each pair of values is a complex number; turning both by their frames leaves the turn by the distance.
        total = (q[2 * pairs :] * k[2 * pairs :]).sum()
        for pair in range(pairs):
            angle = (i - j) * 10_000.0 ** (-pair / pairs)
            turned = torch.complex(q[pair], q[pairs + pair]) * complex(math.cos(angle), math.sin(angle))
            total = total + (turned * torch.complex(k[pair], k[pairs + pair]).conj()).real
        return total / math.sqrt(head_width)

    gathered = RotaryPosition(head_width)(query, key, value)
    expected = by_formula(query[0, 0], key[0, 0], value[0, 0], logit)
    torch.testing.assert_close(gathered[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_ancestor_position_follows_its_formula() -> None:
    rule = AncestorPosition(head_width=4, crop_frames=6, num_bins=12)
    query, key, value = torch.randn(3, 1, 1, 6, 4)
    queries = query[0, 0]

    def logit(q: Tensor, k: Tensor, i: int, j: int) -> Tensor:
        total: Tensor = q @ k + queries[j] @ rule.table[:, i]
        return total / math.sqrt(12)

    expected = by_formula(queries, key[0, 0], value[0, 0], logit)
    torch.testing.assert_close(rule(query, key, value)[0, 0], expected)


def log_shares(rule: nn.Module, query: Tensor, key: Tensor) -> Tensor:
    """How much of key frame j query frame i gathers, as a logarithm: (T, T)."""
    num_frames = query.shape[0]
    shares: Tensor = rule(query[None, None], key[None, None], torch.eye(num_frames)[None, None])
    return shares[0, 0].log()


@pytest.mark.parametrize("rule", [RotaryPosition(16), RelativePosition(16, crop_frames=8)])
def test_shifting_the_input_in_time_shifts_what_frames_attend_to(rule: nn.Module) -> None:
    query, key = torch.randn(2, 16, 16)
    shift = 5
    with torch.inference_mode():
        here = log_shares(rule, query, key)
        there = log_shares(rule, query.roll(shift, dims=0), key.roll(shift, dims=0))
    # Other frames have come into view, among which the whole is shared anew, but how two frames compare stays.
    here, there = here[:-shift, :-shift], there[shift:, shift:]
    torch.testing.assert_close(here - here[:, :1], there - there[:, :1], rtol=1e-3, atol=1e-4)


def test_ancestor_position_does_not_shift() -> None:
    rule = AncestorPosition(head_width=16, crop_frames=16, num_bins=16)
    query, key = torch.randn(2, 16, 16)
    with torch.inference_mode():
        here, there = log_shares(rule, query, key), log_shares(rule, query.roll(5, dims=0), key.roll(5, dims=0))
    here, there = here[:-5, :-5], there[5:, 5:]
    assert not torch.allclose(here - here[:, :1], there - there[:, :1], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("position", ["relative", "rotary", "ancestor"])
def test_attention_without_a_memory_attends_to_itself(position: Position) -> None:
    config = ModelConfig(n_fft=256, num_bands=2, position=position, crop_frames=7)
    layer = MultibandFrameAttention(8, config)
    x = torch.randn(2, 7, 8)
    torch.testing.assert_close(layer(x), layer(x, x), rtol=0, atol=0)
    assert not torch.allclose(layer(x), layer(x, torch.randn(2, 7, 8)))


def test_relative_position_is_told_apart_by_direction() -> None:
    rule = RelativePosition(head_width=2, crop_frames=4)
    with torch.no_grad():
        rule.table.zero_()
        rule.table[3 + 1] = torch.tensor([20.0, 0.0])  # look one frame ahead
    query = torch.ones(1, 1, 4, 2)
    value = torch.eye(4)[None, None]
    gathered = rule(query, torch.zeros(1, 1, 4, 2), value)[0, 0]
    assert gathered.argmax(dim=1)[:3].tolist() == [1, 2, 3]
