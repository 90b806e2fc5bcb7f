"""High bins merged and spread again: nothing is lost but the differences between neighbours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vrtool.errors import RecipeError
from vrtool.model import ModelConfig, build_model
from vrtool.model.frequency_axis import merged, num_merged_bins, spread


def features(num_bins: int) -> torch.Tensor:
    return torch.rand(2, 3, num_bins, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("num_bins", "fine_bins", "expected"),
    [(1024, 0, 1024), (1024, 1024, 1024), (1024, 512, 768), (1024, 256, 512), (2048, 256, 640), (8, 2, 4)],
)
def test_every_octave_above_the_fine_bins_leaves_half_as_many(num_bins: int, fine_bins: int, expected: int) -> None:
    assert num_merged_bins(num_bins, fine_bins) == expected
    x = features(num_bins)
    assert merged(x, fine_bins).shape == (2, 3, expected, 2)
    assert spread(merged(x, fine_bins), fine_bins).shape == x.shape


def test_the_first_octave_is_merged_in_pairs_and_the_second_in_fours() -> None:
    x = torch.arange(16.0).reshape(1, 1, 16, 1)
    assert merged(x, 4).flatten().tolist() == [0.0, 1.0, 2.0, 3.0, 4.5, 6.5, 9.5, 13.5]
    assert spread(merged(x, 4), 4).flatten().tolist() == [0, 1, 2, 3, 4.5, 4.5, 6.5, 6.5, *4 * [9.5], *4 * [13.5]]


@pytest.mark.parametrize("fine_bins", [0, 2, 4, 16])
def test_merging_what_was_spread_changes_nothing(fine_bins: int) -> None:
    x = features(num_merged_bins(16, fine_bins))
    torch.testing.assert_close(merged(spread(x, fine_bins), fine_bins), x)


@pytest.mark.parametrize("fine_bins", [3, 5, 24, 32, 1])
def test_bins_that_are_not_whole_octaves_are_refused(fine_bins: int) -> None:
    with pytest.raises(RecipeError, match=rf"fine_bins must be even and n_fft / 2 = 16 divided .* found {fine_bins}"):
        num_merged_bins(16, fine_bins)


def test_a_network_of_merged_bins_gives_masks_of_all_bins() -> None:
    config = ModelConfig(n_fft=512, fine_bins=64, num_bands=2, channels=2, feedforward_dim=16)
    mask = build_model(config).eval()(torch.rand(1, 2, 257, 5))
    assert mask.shape == (1, 2, 257, 5)
    assert torch.equal(mask[:, :, 64:128:2], mask[:, :, 65:129:2])
    assert not torch.equal(mask[:, :, :64:2], mask[:, :, 1:65:2])


def test_bands_that_do_not_fit_what_is_left_are_refused() -> None:
    config = ModelConfig(n_fft=2048, fine_bins=128)
    with pytest.raises(RecipeError, match=r"fine_bins = 128 of n_fft / 2 = 1024 bins leave 320.*multiple.*= 128"):
        build_model(config)
    build_model(replace(config, num_bands=4))
