"""What every test of the networks runs under, and how one learns a batch by heart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vrtool.model import Network
from vrtool.model.masking import masked_l1_loss


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Threads would spend more time waiting for each other than on tensors as small as these."""


@pytest.fixture(autouse=True)
def _seed() -> None:
    """The same draws in every run, whichever tests came before."""
    torch.manual_seed(0)


@pytest.fixture
def overfit() -> Callable[[Network, Tensor, int], float]:
    """`overfit(network, mixture, num_steps)` trains on one batch; gives the last loss as a share of the first."""

    def train(network: Network, mixture: Tensor, num_steps: int) -> float:
        # The vocals have the lower half of the bins.
        instrumental = mixture.clone()
        instrumental[:, :, : mixture.shape[2] // 2] = 0.0
        optimiser = torch.optim.Adam(network.parameters(), lr=5e-3, fused=True)
        losses = []
        for _ in range(num_steps):
            loss = masked_l1_loss(network(mixture), mixture, instrumental)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.item())
        return losses[-1] / losses[0]

    return train
