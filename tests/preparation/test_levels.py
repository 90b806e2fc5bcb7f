from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrtool.audio.formats import FloatArray
from vrtool.errors import AudioError
from vrtool.preparation.levels import LevelMeter, SampleMeter

HOP = 16


def noise(num_channels: int, num_samples: int) -> FloatArray:
    """Noise whose level falls from hop to hop, through the limit of silence at -60 dB."""
    samples = np.random.default_rng(0).uniform(-1.0, 1.0, (num_channels, num_samples))
    return (samples * 10.0 ** (-np.arange(num_samples) / 200)).astype(np.float32)


def split(samples: FloatArray, cuts: list[int]) -> Iterator[FloatArray]:
    for start, end in pairwise([0, *sorted(cuts), samples.shape[1]]):
        yield samples[:, start:end]


@given(
    num_channels=st.integers(1, 2),
    num_samples=st.integers(1, 1000),
    cuts=st.lists(st.integers(0, 1000 // HOP).map(lambda hops: hops * HOP), max_size=5),
)
def test_levels_are_those_of_the_hops_however_they_come(num_channels: int, num_samples: int, cuts: list[int]) -> None:
    samples = noise(num_channels, num_samples)
    meter = LevelMeter()
    for block in split(samples, cuts):
        if block.shape[1]:
            meter.add(block, HOP)
    powers = np.array(
        [np.square(samples[:, start : start + HOP], dtype=np.float64).mean() for start in range(0, num_samples, HOP)]
    )
    audible = powers[powers >= 1e-6]
    found = meter.statistics(7.0, SampleMeter())
    assert found.peak == 7.0
    assert found.silence_share == pytest.approx(1.0 - audible.size / powers.size)
    assert found.level_db == pytest.approx(10 * math.log10(audible.mean()) if audible.size else -60.0, abs=1e-4)


@given(num_channels=st.integers(1, 2), cuts=st.lists(st.integers(0, 500), max_size=5))
def test_samples_are_measured_alike_however_they_come(num_channels: int, cuts: list[int]) -> None:
    samples = noise(num_channels, 500)
    samples[-1, 100:110] = -1.0
    samples[-1, 200] = 2.5
    meter = SampleMeter()
    for block in split(samples, cuts):
        meter.add(block)
    assert meter.sample_peak == 2.5
    assert meter.clipping_share == pytest.approx(11 / samples.size)


@pytest.mark.parametrize(("sample", "is_clipped"), [(32767 / 32768, True), (0.9998, False), (-1.0, True)])
def test_full_scale_of_16_bits_counts_as_clipped(sample: float, is_clipped: bool) -> None:
    meter = SampleMeter()
    meter.add(np.full((1, 10), sample, np.float32))
    assert meter.clipping_share == float(is_clipped)


@pytest.mark.parametrize(("sample", "message"), [
    (math.nan, "its vocals has samples that are NaN or infinite; export it again"),
    (-math.inf, "its vocals has samples that are NaN or infinite; export it again"),
    (1e10, r"its vocals has samples of up to 1e\+10, expected full scale to be 1; export it again"),
])  # fmt: skip
def test_a_single_sample_that_cannot_be_audio_is_refused(sample: float, message: str) -> None:
    samples = noise(2, 100)
    samples[1, 50] = sample
    with pytest.raises(AudioError, match=f"^{message}$"):
        SampleMeter("its vocals ").add(samples)


def test_nothing_at_all_is_silent_and_not_clipped() -> None:
    samples = SampleMeter()
    samples.add(np.zeros((2, 0), np.float32))
    statistics = LevelMeter().statistics(0.0, samples)
    assert (statistics.level_db, statistics.silence_share, statistics.clipping_share) == (-60.0, 1.0, 0.0)
    assert statistics.sample_peak == 0.0
