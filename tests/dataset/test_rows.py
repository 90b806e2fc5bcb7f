from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vrtool.audio.spectrogram import ComplexArray
from vrtool.dataset.rows import (
    LARGEST_INTEGER,
    Precision,
    decode_rows,
    encode_rows,
    largest_difference,
    largest_magnitude,
    row_type,
)

ROUND_TRIP_DB = -93.0
"""Half a step in either part is 20 log10(0.7071 / 32767) = -93.3 dB of the peak; the rest is float32's rounding."""
PRECISIONS: tuple[Precision, ...] = ("int16", "float32")
shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 70))
seeds = st.integers(0, 2**32 - 1)


def noise(seed: int, shape: tuple[int, ...]) -> ComplexArray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def uneven(seed: int, shape: tuple[int, int, int], exponents: tuple[float, float], sparsity: float) -> ComplexArray:
    """Return frames (channel, frame, bin), loud and faint ones side by side, with bins of all sizes within each."""
    rng = np.random.default_rng(seed)
    loudness = 10.0 ** rng.uniform(min(exponents), max(exponents), (*shape[:2], 1))
    spread = 10.0 ** rng.uniform(-6, 0, shape)
    block: ComplexArray = (loudness * spread * np.exp(2j * np.pi * rng.random(shape))).astype(np.complex64)
    block[rng.random(shape) < sparsity] = 0.0
    return block


blocks = st.builds(uneven, seeds, shapes, st.tuples(st.floats(-20, 12), st.floats(-20, 12)), st.floats(0, 1))


def exact(block: ComplexArray) -> ComplexArray:
    """Return the block as complex128 (channel, bin, frame), the order in which spectrograms are handed out."""
    return block.transpose(0, 2, 1).astype(np.complex128)


class TestRoundTrip:
    @settings(max_examples=100, deadline=None)
    @given(block=blocks)
    @example(block=np.zeros((2, 3, 5), np.complex64))
    @example(block=np.full((1, 1, 1), -1e-20j, np.complex64))
    @example(block=np.full((1, 1, 1), 1e12, np.complex64))
    def test_the_error_of_integers_is_93_db_below_each_rows_own_peak(self, block: ComplexArray) -> None:
        found = decode_rows(encode_rows(block, "int16"))
        assert found.dtype == np.complex64
        peak = np.abs(exact(block)).max(axis=1)
        error = np.abs(found - exact(block)).max(axis=1)
        assert (error <= 10.0 ** (ROUND_TRIP_DB / 20.0) * peak).all()

    @settings(max_examples=100, deadline=None)
    @given(mask=st.sampled_from([0xDFFFFFFF, 0x80FFFFFF, 0x80000000]), shape=shapes, seed=seeds)
    def test_float32_gives_every_bit_back(self, mask: int, shape: tuple[int, int, int], seed: int) -> None:
        # Numbers of up to 2**64 of any kind, next to denormal ones, or zeros of either sign.
        words = np.random.default_rng(seed).integers(0, 2**32, (*shape, 2), dtype=np.uint32) & np.uint32(mask)
        found = decode_rows(encode_rows(words.view(np.complex64)[..., 0], "float32"))
        bits = np.ascontiguousarray(found.transpose(0, 2, 1)).view(np.uint32)
        np.testing.assert_array_equal(bits, words.reshape(*shape[:2], -1))

    @pytest.mark.parametrize("precision", PRECISIONS)
    @settings(max_examples=60, deadline=None)
    @given(block=blocks)
    def test_a_peak_is_its_rows_largest_magnitude(self, precision: Precision, block: ComplexArray) -> None:
        rows = encode_rows(block, precision)
        expected = np.abs(block.astype(np.complex128)).max(axis=-1).T
        np.testing.assert_allclose(rows["peak"], expected, rtol=4e-7, atol=0.0)

    @settings(max_examples=60, deadline=None)
    @given(seed=seeds, shape=shapes, power=st.integers(-60, 60))
    def test_loudness_is_in_the_peak_alone(self, seed: int, shape: tuple[int, int, int], power: int) -> None:
        block = noise(seed, shape)
        rows, louder = encode_rows(block, "int16"), encode_rows(block * np.float32(2.0**power), "int16")
        np.testing.assert_array_equal(louder["parts"], rows["parts"])
        np.testing.assert_array_equal(louder["peak"], rows["peak"] * np.float32(2.0**power))

    @settings(max_examples=60, deadline=None)
    @given(seed=seeds, shape=shapes)
    def test_every_row_uses_the_whole_range_and_no_more(self, seed: int, shape: tuple[int, int, int]) -> None:
        parts = encode_rows(noise(seed, shape), "int16")["parts"].astype(np.float64)
        # The largest of them has the magnitude of the peak, but for the rounding of its parts.
        assert np.hypot(parts[:, :, 0], parts[:, :, 1]).max(axis=-1) == pytest.approx(LARGEST_INTEGER, abs=0.71)
        assert np.abs(parts).max() <= LARGEST_INTEGER

    def test_rounding_is_to_the_nearest(self) -> None:
        rows = encode_rows(np.array([[[32767.0, 1.4, -1.6, 0.5j, -2.51j]]], np.complex64), "int16")
        assert rows["peak"].tolist() == [[32767.0]]
        assert rows["parts"][0, 0].tolist() == [[32767, 1, -2, 0, 0], [0, 0, 0, 0, -3]]

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_silence_stays_silence(self, precision: Precision) -> None:
        rows = encode_rows(np.zeros((2, 3, 5), np.complex64), precision)
        assert not rows["peak"].any()
        assert not rows["parts"].any()
        assert not decode_rows(rows).any()

    @pytest.mark.parametrize("loudness", [1e-45, 1e-38, 9e-31])
    def test_what_is_next_to_nothing_becomes_silence_beside_what_is_not(self, loudness: float) -> None:
        block = np.array([[[loudness, loudness * 1j], [2e-30, 0.0]]], np.complex64)
        found = decode_rows(encode_rows(block, "int16"))
        assert not found[0, :, 0].any()
        assert found[0, :, 1] == pytest.approx([2e-30, 0.0], rel=1e-4)


class TestLayout:
    @pytest.mark.parametrize(("precision", "part"), [("int16", "<i2"), ("float32", "<f4")])
    def test_a_row_is_its_peak_then_all_real_then_all_imaginary_parts(self, precision: Precision, part: str) -> None:
        block = noise(0, (2, 3, 7))
        rows = encode_rows(block, precision)
        assert rows.shape == (3, 2)
        assert rows.dtype == row_type(7, precision)
        assert rows.flags.c_contiguous
        data, size = rows.tobytes(), np.dtype(part).itemsize
        row_bytes = 4 + 14 * size
        assert len(data) == 6 * row_bytes
        for frame in range(3):
            for channel in range(2):
                start = (2 * frame + channel) * row_bytes
                (peak,) = np.frombuffer(data, "<f4", 1, start)
                real = np.frombuffer(data, part, 7, start + 4)
                imaginary = np.frombuffer(data, part, 7, start + 4 + 7 * size)
                step = peak / LARGEST_INTEGER if precision == "int16" else 1.0
                np.testing.assert_allclose(step * (real + 1j * imaginary), block[channel, frame], atol=3e-5 * peak)

    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("view", [
        lambda block: block.transpose(2, 1, 0), lambda block: block[::2, 1:, ::-1], lambda block: block[:, :, 3:4],
        lambda block: np.broadcast_to(block[:1], block.shape),
    ])  # fmt: skip
    def test_a_view_is_encoded_like_its_copy_and_left_as_it_was(
        self, precision: Precision, view: Callable[[ComplexArray], ComplexArray]
    ) -> None:
        block = noise(0, (9, 4, 6))
        before = block.copy()
        rows = encode_rows(view(block), precision)
        np.testing.assert_array_equal(rows, encode_rows(view(block).copy(), precision))
        np.testing.assert_array_equal(block, before)

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_a_crop_of_rows_is_the_crop_of_the_spectrogram(self, precision: Precision) -> None:
        rows = encode_rows(noise(0, (2, 9, 5)), precision)
        rows.flags.writeable = False  # as maps are
        np.testing.assert_array_equal(decode_rows(rows[2:6]), decode_rows(rows)[..., 2:6])


class TestLargest:
    @settings(max_examples=60, deadline=None)
    @given(numbers=st.lists(st.floats(width=32, allow_nan=False), max_size=40))
    def test_it_is_the_largest_absolute_value(self, numbers: list[float]) -> None:
        values = np.array(numbers, np.float32)
        assert largest_magnitude(values.view(np.int32)) == np.abs(values).max(initial=0.0)

    @pytest.mark.parametrize("place", range(19))
    @pytest.mark.parametrize("nan", [np.nan, -np.nan])
    def test_a_nan_is_larger_than_all_wherever_it_is(self, place: int, nan: float) -> None:
        values = np.full(19, np.inf, np.float32)
        values[place] = nan
        assert np.isnan(largest_magnitude(values.view(np.int32)))

    @settings(max_examples=60, deadline=None)
    @given(seed=seeds, shape=shapes, exponent=st.floats(-12, 12))
    def test_the_largest_difference_is_that_of_plain_numpy(
        self, seed: int, shape: tuple[int, int, int], exponent: float
    ) -> None:
        one, other = noise(seed, shape) * np.float32(10.0**exponent), noise(seed + 1, shape)
        expected = np.abs(one.astype(np.complex128) - other).max()
        assert largest_difference(one, other) == pytest.approx(expected, rel=1e-6)
        assert largest_difference(one.transpose(2, 0, 1), one.transpose(2, 0, 1)) == 0.0
