from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.resampling import QUALITY, num_resampled, resample_blocks

FloatArray = npt.NDArray[np.float32]

RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 192000]


def noise(num_channels: int, num_samples: int) -> FloatArray:
    return np.random.default_rng(0).uniform(-1, 1, (num_channels, num_samples)).astype(np.float32)


def whole(samples: FloatArray, before: int, after: int) -> FloatArray:
    """All of it at once by soxr's function for that, with silence behind it, of which it would swallow some."""
    padded = np.pad(samples.T, ((0, -(-before // after)), (0, 0)))
    return np.asarray(soxr.resample(padded, before, after, quality=QUALITY)).T


@st.composite
def cut_noise(draw: st.DrawFn) -> list[FloatArray]:
    """Noise in blocks of any lengths, none among them."""
    samples = noise(draw(st.integers(1, 2)), draw(st.integers(0, 6000)))
    cuts = sorted(draw(st.lists(st.integers(0, samples.shape[1]), max_size=6)))
    return [samples[:, start:end] for start, end in pairwise([0, *cuts, samples.shape[1]])]


@settings(max_examples=200, deadline=None)
@given(
    blocks=cut_noise(),
    rates=st.permutations(RATES).map(lambda rates: (rates[0], rates[1]))
    | st.tuples(st.integers(1000, 99_999), st.integers(100_000, 200_000)),
    swaps=st.booleans(),
)
def test_blocks_of_any_lengths_make_the_same_as_the_whole(
    blocks: list[FloatArray], rates: tuple[int, int], swaps: bool
) -> None:
    before, after = reversed(rates) if swaps else rates
    samples = np.concatenate(blocks, axis=1)
    found = np.concatenate(list(resample_blocks(blocks, before, after)), axis=1)
    num_samples = -(-samples.shape[1] * after // before)
    assert num_samples == num_resampled(samples.shape[1], before, after)
    assert found.dtype == np.float32
    assert found.shape == (len(samples), num_samples)
    assert np.abs(found - whole(samples, before, after)[:, :num_samples]).max(initial=0) < 1e-6


def test_the_same_rate_passes_blocks_as_they_are() -> None:
    blocks = [noise(2, 100), noise(2, 0), noise(2, 7)]
    for given_block, found in zip(blocks, resample_blocks(blocks, 44100, 44100), strict=True):
        assert found is given_block


@pytest.mark.parametrize("after", [44100, 48000])
def test_no_blocks_at_all_are_none_at_any_rate(after: int) -> None:
    assert list(resample_blocks([], 44100, after)) == []


@pytest.mark.parametrize(("before", "after"), [(48000, 44100), (22050, 44100), (44100, 8000)])
def test_a_stream_is_not_held_back(before: int, after: int) -> None:
    num_read = 0

    def read() -> Iterator[FloatArray]:
        nonlocal num_read
        for _ in range(100):
            num_read += before // 10
            yield noise(2, before // 10)

    num_written = 0
    for block in resample_blocks(read(), before, after):
        num_written += block.shape[1]
        assert num_read / before - num_written / after < 0.5
    assert num_written == 10 * after
