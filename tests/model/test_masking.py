"""From mask to stems, and the loss on the way."""

from __future__ import annotations

import numpy as np
import torch

from vrtool.model.masking import estimate_instrumental, masked_l1_loss


def test_the_estimate_keeps_the_mixtures_phase() -> None:
    generator = np.random.default_rng(0)
    mask = generator.random((2, 5, 3), dtype=np.float32)
    mixture = np.exp(1j * generator.uniform(-3, 3, (2, 5, 3))).astype(np.complex64)
    estimate = estimate_instrumental(mask, mixture)
    assert estimate.dtype == np.complex64
    np.testing.assert_allclose(np.abs(estimate), mask, rtol=1e-6)
    np.testing.assert_allclose(np.angle(estimate), np.angle(mixture), rtol=1e-5)


def test_a_mask_of_ones_leaves_the_mixture() -> None:
    magnitude = torch.rand(1, 2, 5, 3)
    assert torch.equal(estimate_instrumental(torch.ones(1, 2, 5, 3), magnitude), magnitude)


def test_the_loss_is_the_mean_absolute_error_of_the_masked_mixture() -> None:
    mask, mixture, instrumental = torch.rand(3, 2, 2, 5, 3)
    expected = np.abs((mask * mixture - instrumental).numpy()).mean()
    np.testing.assert_allclose(float(masked_l1_loss(mask, mixture, instrumental)), expected, rtol=1e-6)
    assert float(masked_l1_loss(torch.ones_like(mask), mixture, mixture)) == 0.0
