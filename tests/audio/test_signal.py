from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrtool.audio.formats import FloatArray
from vrtool.audio.signal import ArraySignal, read_padded


class Strict(ArraySignal):
    """Refuses to be asked for what is not there."""

    def read(self, start: int, count: int) -> FloatArray:
        assert count > 0
        assert start >= 0
        assert start + count <= self.num_samples
        return super().read(start, count)


@given(
    num_samples=st.integers(0, 50),
    num_channels=st.integers(1, 2),
    start=st.integers(-80, 80),
    count=st.integers(0, 80),
)
def test_a_stretch_is_the_signal_with_silence_around_it(
    num_samples: int, num_channels: int, start: int, count: int
) -> None:
    samples = np.arange(1, 1 + num_channels * num_samples, dtype=np.float32).reshape(num_channels, num_samples)
    surrounded = np.pad(samples, ((0, 0), (80, 160)))
    found = read_padded(Strict(samples), start, count)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, surrounded[:, 80 + start : 80 + start + count])


@pytest.mark.parametrize("num_channels", [1, 2])
def test_an_array_knows_its_size(num_channels: int) -> None:
    signal = ArraySignal(np.zeros((num_channels, 7), np.float32))
    assert (signal.num_channels, signal.num_samples) == (num_channels, 7)
