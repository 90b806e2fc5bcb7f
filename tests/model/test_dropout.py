"""Dropout from cheap random bits keeps what it should."""

from __future__ import annotations

import pytest
import torch

from vrtool.model.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_is_dropped_and_the_mean_stays(share: float) -> None:
    torch.manual_seed(0)
    y = Dropout(share)(torch.ones(3, 100_001))
    assert float((y == 0).float().mean()) == pytest.approx(share, abs=0.005)
    assert float(y.mean()) == pytest.approx(1.0, abs=0.005)


def test_the_four_values_of_a_draw_are_independent() -> None:
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(100_000, 4)) == 0).float()
    assert (torch.corrcoef(dropped.T) - torch.eye(4)).abs().max() < 0.02
    assert (dropped.mean(dim=0) - 0.5).abs().max() < 0.01


def test_nothing_is_dropped_outside_training_or_by_a_share_of_zero() -> None:
    x = torch.ones(5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
