"""How long a resampled stream holds samples back."""

from __future__ import annotations

import numpy as np
import pytest

from vrtool.audio.resampling import Resampler, num_resampled, resampling_delay_seconds

RATES = [(48000, 44100), (44100, 48000), (44100, 22050), (8000, 44100), (44100, 8000), (192000, 44100), (37811, 44100)]


@pytest.mark.parametrize(("before", "after"), RATES)
def test_no_sample_is_held_back_longer_than_the_delay_says_nor_much_shorter(before: int, after: int) -> None:
    delay = resampling_delay_seconds(before, after)
    generator = np.random.default_rng(0)
    resampler = Resampler(before, after, 1)
    num_read = num_written = 0
    longest = 0.0
    while num_read < 8 * before:
        block = np.zeros((1, int(generator.integers(0, before // 200))), np.float32)
        num_read += block.shape[1]
        num_written += resampler.push(block).shape[1]
        longest = max(longest, num_read / before - num_written / after)
    assert delay - 0.01 < longest <= delay
    num_written += resampler.finish().shape[1]
    assert num_written == num_resampled(num_read, before, after)


def test_the_same_rate_has_no_delay() -> None:
    assert resampling_delay_seconds(44100, 44100) == 0
