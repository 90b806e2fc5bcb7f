from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.spectrogram import ComplexArray
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.kernels import LARGEST_INTEGER, layer_magnitudes, quantise, scale_into

ROUND_TRIP_DB = -80.0


def dequantised(block: ComplexArray) -> ComplexArray:
    """What a reader makes of a block's integers and scales, (channel, frame, bin)."""
    values, scale = quantise(block)
    parts = values * scale[:, :, None, None]
    return (parts[..., 0] + 1j * parts[..., 1]).transpose(1, 0, 2).astype(np.complex64)


class TestQuantising:
    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        shape=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 40)),
        exponents=st.tuples(st.floats(-20, 30), st.floats(-20, 30)),
        sparsity=st.floats(0, 1),
    )
    def test_the_error_is_80_db_below_each_frames_peak(
        self, seed: int, shape: tuple[int, int, int], exponents: tuple[float, float], sparsity: float
    ) -> None:
        rng = np.random.default_rng(seed)
        # Loud and faint frames side by side, and bins of all sizes within each.
        loudness = 10.0 ** rng.uniform(min(exponents), max(exponents), (shape[0], shape[1], 1))
        spread = 10.0 ** rng.uniform(-6, 0, shape)
        block = (loudness * spread * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))).astype(
            np.complex64
        )
        block[rng.random(shape) < sparsity] = 0.0
        peak = np.abs(block).max(axis=-1)
        error = np.abs(dequantised(block) - block).max(axis=-1)
        assert (error <= 10.0 ** (ROUND_TRIP_DB / 20.0) * peak).all()

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_every_frame_uses_the_whole_range_and_no_more(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        block = (rng.standard_normal((2, 4, 9)) + 1j * rng.standard_normal((2, 4, 9))).astype(np.complex64)
        values, _ = quantise(block * np.float32(10.0 ** rng.uniform(-10, 10)))
        assert (np.abs(values.astype(np.int64)).max(axis=(2, 3)) == LARGEST_INTEGER).all()

    def test_silence_stays_silence(self) -> None:
        values, scale = quantise(np.zeros((2, 3, 5), np.complex64))
        assert not values.any()
        assert not scale.any()

    @pytest.mark.parametrize("loudness", [1e-45, 1e-38, 1e-30])
    def test_what_is_next_to_nothing_becomes_finite(self, loudness: float) -> None:
        block = np.full((1, 2, 3), loudness, np.complex64)
        result = dequantised(block)
        assert np.isfinite(result).all()
        assert np.abs(result).max() <= 2 * loudness

    def test_rounding_is_to_the_nearest(self) -> None:
        block = np.array([[[32767.0, 1.4, -1.6, 0.5j]]], np.complex64)
        values, scale = quantise(block)
        assert scale[0, 0] == 1.0
        assert values[0, 0].tolist() == [[32767, 0], [1, 0], [-2, 0], [0, 0]]

    def test_a_quantised_spectrogram_is_quantised_to_itself(self) -> None:
        rng = np.random.default_rng(0)
        block = (rng.standard_normal((2, 8, 17)) + 1j * rng.standard_normal((2, 8, 17))).astype(np.complex64)
        values, _ = quantise(block)
        np.testing.assert_array_equal(quantise(dequantised(block))[0], values)

    def test_a_transposed_view_is_quantised_like_its_copy(self) -> None:
        rng = np.random.default_rng(0)
        view = (rng.standard_normal((9, 4, 2)) + 1j).astype(np.complex64).transpose(2, 1, 0)
        for one, other in zip(quantise(view), quantise(view.copy()), strict=True):
            np.testing.assert_array_equal(one, other)


class TestLayering:
    """The arithmetic against plain numpy is in test_examples; here is what a whole cache cannot show."""

    def layered(self, gains: FloatArray, scale: float = 1.0) -> tuple[float, FloatArray]:
        """Lay one frame of 3 + 4i, 3 bins, at frame 1 of 3, over one of 6 + 8i there; return largest and result."""
        values = np.tile(np.array([3, 4], np.int16), (1, 2, 3, 1))
        scales = np.full((1, 2), scale, np.float32)
        for array in (values, scales):
            array.flags.writeable = False  # as maps are, so that no other variant is compiled
        magnitudes = np.full((2, 2, 3, 3), np.nan, np.float32)
        largest = layer_magnitudes(
            (values, values),
            (scales, scales),
            np.array([1, 1]),
            np.array([[0, 1], [0, 1]]),
            gains,
            np.array([[1, 1, 1], [2, 2, 2]], np.float32),
            magnitudes,
        )
        return float(largest), magnitudes

    def test_frames_without_a_layer_are_zero_and_memory_is_overwritten(self) -> None:
        largest, magnitudes = self.layered(np.ones((2, 2, 2), np.float32))
        assert magnitudes[:, :, 1].tolist() == np.full((2, 2, 3), 15.0).tolist()
        assert not magnitudes[:, :, [0, 2]].any()
        assert largest == 15.0

    def test_opposite_polarity_cancels(self) -> None:
        gains = np.ones((2, 2, 2), np.float32)
        gains[0] = -2.0
        largest, magnitudes = self.layered(gains)
        assert largest == 0.0
        assert not magnitudes.any()

    def test_the_largest_may_be_in_either_target(self) -> None:
        for target in (0, 1):
            gains = np.ones((2, 2, 2), np.float32)
            gains[:, target, 1] = 3.0
            largest, magnitudes = self.layered(gains)
            assert largest == magnitudes[target, 1, 1, 0] == 45.0

    def test_the_sound_of_one_channel_does_not_leak_into_the_other(self) -> None:
        gains = np.zeros((2, 2, 2), np.float32)
        gains[0, 0, 1] = 1.0
        _, magnitudes = self.layered(gains)
        assert magnitudes[0, 1, 1].tolist() == [5.0] * 3
        assert not magnitudes[1].any()
        assert not magnitudes[0, 0].any()

    def test_loud_sources_stay_finite(self) -> None:
        # The loudest that preparation lets through: 2**31 of full scale under a window of 2**15 samples.
        largest, magnitudes = self.layered(np.ones((2, 2, 2), np.float32), scale=2.0**45 / LARGEST_INTEGER)
        assert np.isfinite(largest)
        assert np.isfinite(magnitudes).all()


class TestScaling:
    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.25, 4.0), weight=st.floats(0.0, 1.0))
    def test_adds_the_share_of_what_is_clipped_to_one(self, seed: int, scale: float, weight: float) -> None:
        rng = np.random.default_rng(seed)
        magnitudes = rng.random((2, 2, 3, 5), np.float32)
        result = rng.random((2, 2, 3, 5), np.float32)
        expected = result + weight * np.minimum(magnitudes / scale, 1.0)
        scale_into(magnitudes, 1.0 / scale, weight, result)
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)
