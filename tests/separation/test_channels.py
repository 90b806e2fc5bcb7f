"""Mono songs through stereo networks and the other way round."""

import pytest
import torch

from vrtool.separation.channels import from_network_channels, to_network_channels


@pytest.mark.parametrize("song_channels", [1, 2])
@pytest.mark.parametrize("network_channels", [1, 2])
def test_what_a_network_leaves_alone_comes_back(song_channels: int, network_channels: int) -> None:
    magnitude = torch.rand(3, song_channels, 5, 7)
    given = to_network_channels(magnitude, network_channels)
    assert given.shape[1:] == (network_channels, 5, 7)
    torch.testing.assert_close(from_network_channels(given, song_channels), magnitude)


def test_the_sides_that_a_stereo_network_gives_a_mono_song_are_averaged() -> None:
    mask = torch.tensor([0.2, 0.6]).view(1, 2, 1, 1)
    assert from_network_channels(mask, 1).item() == pytest.approx(0.4)
