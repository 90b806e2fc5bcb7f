"""The compiled loop against the same arithmetic in numpy, with 64-bit floats."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.waveform import FloatArray
from vrtool.dataset import kernels
from vrtool.dataset.kernels import Signals, addresses_of, mix_into
from vrtool.dataset.rows import LARGEST_INTEGER, PART_TYPES, Precision, RowArray, encode_rows, row_type

Complex128Array = npt.NDArray[np.complex128]
PRECISIONS: tuple[Precision, ...] = ("int16", "float32")
BOTH = pytest.mark.parametrize("precision", PRECISIONS)
ULP = 2.0**-24
"""Half the distance between float32 numbers, relative: what one rounding errs by at most."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What is given to the kernel, as arrays; `num_shared` and `num_instrumental` as in `Signals`."""

    crops: Sequence[RowArray]
    num_frames: int
    positions: Sequence[int]
    channels: Sequence[tuple[int, int]]
    gains: FloatArray
    equalisers: FloatArray
    num_shared: int
    num_instrumental: int
    least_scale: float = 1e-9
    share: float = 1.0

    @property
    def part_type(self) -> np.dtype[Any]:
        return self.crops[0].dtype["parts"].base

    @property
    def signals(self) -> Signals:
        return Signals(
            addresses=addresses_of(self.crops),
            shapes=np.array([crop.shape for crop in self.crops], np.int64),
            positions=np.array(self.positions, np.int64),
            channels=np.array(self.channels, np.int64),
            gains=self.gains,
            equalisers=self.equalisers,
            num_shared=self.num_shared,
            num_instrumental=self.num_instrumental,
        )

    def empty_result(self) -> FloatArray:
        return np.full((2, 2, self.num_frames, self.equalisers.shape[1]), np.nan, np.float32)

    def run(self, into: FloatArray | None = None) -> tuple[float, FloatArray]:
        """Return scale and result; the latter is added to a copy of `into` if that is given."""
        result = self.empty_result() if into is None else into.copy()
        scale = mix_into(self.signals, self.part_type, self.least_scale, self.share, result, blend=into is not None)
        return scale, result

    def run_to_parts(self, parts: FloatArray, *, blend: bool) -> float:
        """Write real and imaginary parts, shape (target, channel, frame, bin, 2), and return the scale."""
        return mix_into(self.signals, self.part_type, self.least_scale, self.share, parts, blend=blend)

    def summed(self) -> tuple[Complex128Array, npt.NDArray[np.float64]]:
        """Return mixture and instrumental (target, channel, frame, bin), and the sums of the magnitudes in them."""
        total = np.zeros((2, 2, self.num_frames, self.equalisers.shape[1]), np.complex128)
        added = np.zeros(total.shape)
        for number, crop in enumerate(self.crops):
            targets = [0, 1] if number < self.num_shared else [1] if number < self.num_instrumental else [0]
            parts = crop["parts"].astype(np.float64)
            if self.part_type == PART_TYPES["int16"]:
                parts *= crop["peak"].astype(np.float64)[:, :, None, None] / LARGEST_INTEGER
            spectrum = parts[:, :, 0] + 1j * parts[:, :, 1]
            for frame in range(len(crop)):
                place = self.positions[number] + frame
                for channel in range(2) if place < self.num_frames else ():
                    weight = self.gains[number, channel].astype(np.float64) * self.equalisers[number]
                    row = weight * spectrum[frame, self.channels[number][channel]]
                    total[targets, channel, place] += row
                    added[targets, channel, place] += np.abs(row)
        return total, added

    def expected(self, into: FloatArray | float = 0.0) -> tuple[float, npt.NDArray[np.float64], float]:
        """Return scale and result, and the error, relative to the scale, that float32 may have made in either."""
        total, added = self.summed()
        scale = max(float(np.abs(total).max()), self.least_scale)
        # A product and a sum for each signal, and a handful of operations on the magnitude.
        tolerance = (2 * len(self.crops) + 8) * ULP * max(1.0, float(added.max()) / scale)
        return scale, into + self.share * np.minimum(np.abs(total) / scale, 1.0), tolerance


def noise_rows(
    rng: np.random.Generator, num_frames: int, num_channels: int, num_bins: int, precision: Precision
) -> RowArray:
    """Return rows of noise, loud and faint frames side by side, some bins and some rows zero."""
    shape = (num_channels, num_frames, num_bins)
    block = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    block *= 10.0 ** rng.uniform(-3, 2, (num_channels, num_frames, 1))
    block[rng.random(shape) < 0.2] = 0.0
    block[rng.random(shape[:2]) < 0.1] = 0.0
    rows = encode_rows(block.astype(np.complex64), precision)
    rows.flags.writeable = False  # as maps are
    return rows


def random_mix(
    seed: int, num_signals: int, num_in_both: int, num_instrumental: int, sizes: tuple[int, int], precision: Precision
) -> Mix:
    """Return a mix of mono and stereo tracks, crops within or beyond the result's end, gains and equalisers."""
    rng = np.random.default_rng(seed)
    num_frames, num_bins = sizes
    gains = rng.choice([0.0, 1.0, -1.0, 0.3, -2.0], (num_signals, 2)).astype(np.float32)
    equalisers = rng.uniform(0.5, 2.0, (num_signals, num_bins)).astype(np.float32)
    equalisers[rng.random(num_signals) < 0.5] = 1.0
    crops: list[RowArray] = []
    positions: list[int] = []
    channels: list[tuple[int, int]] = []
    for number in range(num_signals):
        if number and rng.random() < 0.3:
            # The same again, upside down: where nothing else sounds, there is silence under a high bound.
            crops.append(crops[-1])
            positions.append(positions[-1])
            channels.append(channels[-1])
            gains[number], equalisers[number] = -gains[number - 1], equalisers[number - 1]
            continue
        track = noise_rows(rng, int(rng.integers(1, num_frames + 6)), int(rng.integers(1, 3)), num_bins, precision)
        begin = int(rng.integers(0, len(track)))
        crops.append(track[begin : int(rng.integers(begin, len(track))) + 1])
        positions.append(int(rng.integers(0, num_frames + 2)))
        last = track.shape[1] - 1
        channels.append(((0, last), (last, 0), (last, last))[rng.integers(3)])
    num_shared = min(num_in_both, num_signals)
    return Mix(
        crops=crops,
        num_frames=num_frames,
        positions=positions,
        channels=channels,
        gains=gains,
        equalisers=equalisers,
        num_shared=num_shared,
        num_instrumental=min(num_shared + num_instrumental, num_signals),
        least_scale=float(10.0 ** rng.uniform(-9, 3)),
        share=float(rng.choice([1.0, rng.random()])),
    )


mixes = st.builds(
    random_mix,
    st.integers(0, 2**32 - 1),
    st.integers(1, 8),
    st.integers(0, 8),
    st.integers(0, 3),
    st.tuples(st.integers(1, 9), st.integers(1, 40)),
    st.sampled_from(PRECISIONS),
)


def rows_of(magnitudes: Sequence[float | Sequence[float]], precision: Precision = "int16") -> RowArray:
    """Return stereo rows of one frame each, both channels alike, from their (real) bins."""
    frames = np.array([np.atleast_1d(frame) for frame in magnitudes], np.complex64)
    return encode_rows(np.stack([frames, frames]), precision)


def mix_of(*crops: RowArray, gains: Sequence[tuple[float, float]] = (), **changes: Any) -> Mix:
    """Return a mix of crops at frame 0, all of them in both targets at gain 1 unless told otherwise."""
    num_bins = crops[0].dtype["parts"].shape[1]
    plain = Mix(
        crops=crops,
        num_frames=max(map(len, crops)),
        positions=[0] * len(crops),
        channels=[(0, 1)] * len(crops),
        gains=np.array(gains or [(1.0, 1.0)] * len(crops), np.float32),
        equalisers=np.ones((len(crops), num_bins), np.float32),
        num_shared=len(crops),
        num_instrumental=len(crops),
    )
    return replace(plain, **changes)


class TestAgainstNumpy:
    @settings(max_examples=400, deadline=None)
    @given(mix=mixes)
    def test_any_mix_is_what_numpy_makes_of_it(self, mix: Mix) -> None:
        scale, result = mix.run()
        expected_scale, expected, tolerance = mix.expected()
        assert scale == pytest.approx(expected_scale, rel=tolerance)
        np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance)

    @settings(max_examples=200, deadline=None)
    @given(mix=mixes)
    def test_the_parts_of_any_mix_are_those_that_numpy_adds_up(self, mix: Mix) -> None:
        total, _ = mix.summed()
        expected_scale, _, tolerance = mix.expected()
        for blend, before in ((False, np.nan), (True, 0.25)):
            parts = np.full((*mix.empty_result().shape, 2), before, np.float32)
            scale = mix.run_to_parts(parts, blend=blend)
            assert scale == pytest.approx(expected_scale, rel=tolerance)
            expected = mix.share / expected_scale * np.stack([total.real, total.imag], axis=-1)
            np.testing.assert_allclose(parts, expected + (before if blend else 0.0), rtol=0, atol=tolerance)

    @settings(max_examples=100, deadline=None)
    @given(mix=mixes)
    def test_blending_adds_to_what_is_there(self, mix: Mix) -> None:
        before = np.random.default_rng(0).random(mix.empty_result().shape, np.float32)
        scale, result = mix.run(into=before)
        expected_scale, expected, tolerance = mix.expected(into=before)
        assert scale == pytest.approx(expected_scale, rel=tolerance)
        np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance + 2 * ULP)

    @settings(max_examples=100, deadline=None)
    @given(mix=mixes, partner=mixes, weight=st.floats(0.0, 1.0))
    def test_what_two_shares_of_one_add_up_to_is_within_0_and_1(self, mix: Mix, partner: Mix, weight: float) -> None:
        alike = replace(partner, crops=mix.crops, num_frames=mix.num_frames, positions=mix.positions,
                        channels=mix.channels, gains=mix.gains, equalisers=mix.equalisers,
                        num_shared=mix.num_shared, num_instrumental=mix.num_instrumental)  # fmt: skip
        _, result = replace(mix, share=weight).run()
        _, blended = replace(alike, share=1.0 - weight).run(into=result)
        for magnitudes in (result, blended):
            assert magnitudes.min() >= 0.0
            assert magnitudes.max() <= 1.0

    @settings(max_examples=50, deadline=None)
    @given(mix=mixes)
    def test_the_same_mix_is_the_same_to_the_bit(self, mix: Mix) -> None:
        scale, result = mix.run()
        again, other = mix.run()
        assert scale == again
        np.testing.assert_array_equal(result, other)


class TestLayering:
    @BOTH
    def test_frames_that_no_signal_reaches_are_zero_and_memory_is_overwritten(self, precision: Precision) -> None:
        sound = rows_of([[3.0, 4.0]], precision)
        _, result = mix_of(sound, num_frames=3, positions=[1]).run()
        np.testing.assert_allclose(result[:, :, 1], np.full((2, 2, 2), [0.75, 1.0]), rtol=2e-5)
        assert not result[:, :, [0, 2]].any()

    @BOTH
    def test_what_begins_behind_the_end_is_not_heard(self, precision: Precision) -> None:
        sound = rows_of([1.0, 1.0], precision)
        scale, result = mix_of(sound, sound, num_frames=2, positions=[0, 2]).run()
        assert scale == 1.0
        assert result.tolist() == np.ones((2, 2, 2, 1)).tolist()

    @BOTH
    def test_opposite_polarity_cancels(self, precision: Precision) -> None:
        sound = rows_of([1.0, 7.0], precision)
        scale, result = mix_of(sound, sound, gains=[(1.0, 0.5), (-1.0, -0.5)], least_scale=0.25).run()
        assert scale == 0.25
        # A product that is added without being rounded leaves the rounding of the one it cancels.
        assert result.max() <= 7.0 / 0.25 * ULP

    @BOTH
    @pytest.mark.parametrize("target", [0, 1])
    def test_the_largest_may_be_in_either_target(self, precision: Precision, target: int) -> None:
        mixture, instrumental = (
            rows_of([1.0 + 3.0 * (target == 0)], precision),
            rows_of([2.0 * target + 2.0], precision),
        )
        scale, result = mix_of(instrumental, mixture, num_shared=0, num_instrumental=1).run()
        assert scale == 4.0
        assert result[target].tolist() == np.ones((2, 1, 1)).tolist()
        assert result[1 - target].max() <= 0.5

    @BOTH
    def test_a_mixture_without_an_instrumental_leaves_that_silent(self, precision: Precision) -> None:
        mix = mix_of(rows_of([1.0], precision), rows_of([3.0], precision), num_shared=0, num_instrumental=0)
        scale, result = mix.run()
        assert scale == 4.0
        assert result[:, 0, 0, 0].tolist() == [1.0, 0.0]

    @BOTH
    def test_the_sound_of_one_channel_does_not_leak_into_the_other(self, precision: Precision) -> None:
        rows = rows_of([1.0], precision).copy()
        rows["peak"][:, 1] = 0.0
        rows["parts"][:, 1] = 0
        _, straight = mix_of(rows).run()
        _, swapped = mix_of(rows, channels=[(1, 0)]).run()
        assert straight[:, :, 0, 0].tolist() == [[1.0, 0.0]] * 2
        assert swapped[:, :, 0, 0].tolist() == [[0.0, 1.0]] * 2

    @BOTH
    def test_a_mono_track_feeds_both_sides(self, precision: Precision) -> None:
        rows = encode_rows(np.full((1, 3, 2), 2.0j, np.complex64), precision)
        _, result = mix_of(rows, channels=[(0, 0)]).run()
        assert result.tolist() == np.ones((2, 2, 3, 2)).tolist()

    @BOTH
    def test_loud_sources_stay_finite(self, precision: Precision) -> None:
        # The loudest that preparation lets through: 2**31 of full scale under a window of 2**15 samples.
        loud = rows_of([2.0**45], precision)
        scale, result = mix_of(*[loud] * 4, gains=[(10.0, 10.0)] * 4).run()
        assert scale == pytest.approx(40.0 * 2.0**45, rel=1e-6)
        np.testing.assert_allclose(result, 1.0, rtol=1e-6)

    @BOTH
    def test_faint_sources_are_not_lost(self, precision: Precision) -> None:
        faint = rows_of([[1e-12, 5e-13]], precision)
        scale, result = mix_of(faint, least_scale=1e-13).run()
        assert scale == pytest.approx(1e-12, rel=1e-4)
        np.testing.assert_allclose(result[0, 0, 0], [1.0, 0.5], rtol=1e-4)


class TestScale:
    def bounds(self, mix: Mix) -> npt.NDArray[np.float64]:
        """Return what each frame's magnitudes cannot exceed, if the rows' peaks are all that is known."""
        bounds = np.zeros(mix.num_frames)
        for crop, gains in zip(mix.crops, mix.gains, strict=True):
            bounds += np.abs(gains).max() * crop["peak"].max(axis=1)
        return bounds

    @BOTH
    def test_the_row_with_the_highest_bound_need_not_be_the_largest(self, precision: Precision) -> None:
        # In the middle two signals cancel each other, at the end they are in different bins.
        one = rows_of([[3.0, 0.0], [5.0, 0.0], [4.0, 0.0]], precision)
        other = rows_of([[0.5, 0.0], [-5.0, 0.0], [0.0, 4.5]], precision)
        mix = mix_of(one, other)
        assert self.bounds(mix).tolist() == [3.5, 10.0, 8.5]
        scale, result = mix.run()
        assert scale == pytest.approx(4.5, rel=1e-4)
        np.testing.assert_allclose(result[0, 0], [[3.5 / 4.5, 0.0], [0.0, 0.0], [4.0 / 4.5, 1.0]], atol=1e-4)

    @BOTH
    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)])
    def test_the_largest_row_is_found_in_whatever_order(self, precision: Precision, order: Sequence[int]) -> None:
        # Bounds of 8, 6, 5 and 4 stand over magnitudes of 0, 2, 3 and 4.
        one, other = [4.0, 4.0, 4.0, 4.0], [-4.0, -2.0, -1.0, 0.0]
        mix = mix_of(*(rows_of([frames[place] for place in order], precision) for frames in (one, other)))
        assert np.argmax(self.bounds(mix)) == order.index(0)
        scale, result = mix.run()
        assert scale == pytest.approx(4.0, rel=1e-4)
        expected = [[0.0, 0.5, 0.75, 1.0][place] for place in order]
        np.testing.assert_allclose(result[0, 0, :, 0], expected, atol=1e-4)

    @BOTH
    def test_it_is_no_less_than_asked(self, precision: Precision) -> None:
        sound = rows_of([2.0], precision)
        for least, expected in ((1.0, 2.0), (8.0, 8.0)):
            scale, result = mix_of(sound, least_scale=least).run()
            assert scale == expected
            assert result.max() == 2.0 / expected

    def test_a_row_that_rounding_made_larger_than_its_peak_counts_in_full(self) -> None:
        # Both parts of the second are rounded up, by which its magnitude exceeds that of the first.
        block = np.array([[[1.0], [0.999995 * np.exp(0.25j * np.pi)]]], np.complex64)
        rows = encode_rows(np.concatenate([block, block]), "int16")
        mix = mix_of(rows)
        expected, _, _ = mix.expected()
        assert expected > 1.000004
        scale, _ = mix.run()
        assert scale == pytest.approx(expected, rel=2e-7)

    @BOTH
    def test_what_is_equalised_and_muted_counts_as_it_sounds(self, precision: Precision) -> None:
        sound = rows_of([[3.0, 2.0]], precision)
        equaliser = np.array([[1.0, 4.0]], np.float32)
        scale, _ = mix_of(sound, equalisers=equaliser, gains=[(0.0, -0.5)]).run()
        assert scale == pytest.approx(4.0, rel=1e-4)


class TestDamage:
    """A row whose bytes have changed must not put what is no number into a batch."""

    NUM_BINS = 19

    def damaged(self, precision: Precision, number: int, frame: int, change: dict[str, float], bin_: int = 0) -> Mix:
        """Return a mix of two shared, one instrumental and one mixture signal, one of them changed in one row."""
        rng = np.random.default_rng(0)
        crops = [noise_rows(rng, 5, 2, self.NUM_BINS, precision).copy() for _ in range(4)]
        row = crops[number][frame, 1]
        if "peak" in change:
            row["peak"] = change["peak"]
        for part, name in enumerate(("real", "imaginary")):
            if name in change:
                row["parts"][part, bin_] = change[name]
        return mix_of(*crops, num_shared=2, num_instrumental=3)

    @BOTH
    @pytest.mark.parametrize("number", range(4))
    @pytest.mark.parametrize("frame", [0, 2, 4])
    @pytest.mark.parametrize("peak", [np.nan, -np.nan, np.inf, -np.inf, 1e19, -1e19, 3e38])
    def test_a_peak_that_is_none_makes_the_scale_nan(
        self, precision: Precision, number: int, frame: int, peak: float
    ) -> None:
        scale, _ = self.damaged(precision, number, frame, {"peak": peak}).run()
        assert np.isnan(scale)

    @pytest.mark.parametrize("number", range(4))
    @pytest.mark.parametrize("bin_", [0, 7, 8, 15, 16, 18])
    @pytest.mark.parametrize("part", ["real", "imaginary"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20, -3e38])
    def test_a_part_that_is_none_makes_the_scale_nan(self, number: int, bin_: int, part: str, value: float) -> None:
        for frame in (0, 4):
            mix = self.damaged("float32", number, frame, {part: value}, bin_)
            scale, _ = mix.run()
            assert np.isnan(scale)
            blended, _ = mix.run(into=np.zeros_like(mix.empty_result()))
            assert np.isnan(blended)
            assert np.isnan(mix.run_to_parts(np.zeros((*mix.empty_result().shape, 2), np.float32), blend=False))

    @BOTH
    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_whatever_bytes_a_row_has_the_scale_is_nan_or_the_result_is_in_range(
        self, precision: Precision, data: st.DataObject
    ) -> None:
        number, frame = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 4))
        mix = self.damaged(precision, number, frame, {})
        row_bytes = row_type(self.NUM_BINS, precision).itemsize
        found = data.draw(st.binary(min_size=row_bytes, max_size=row_bytes))
        mix.crops[number][frame, 0] = np.frombuffer(found, row_type(self.NUM_BINS, precision))[0]
        scale, result = mix.run()
        if not np.isnan(scale):
            assert 0.0 < scale < np.inf
            assert result.min() >= 0.0
            assert result.max() <= 1.0


class TestFastMath:
    """The functions with fast-math flags against the same functions compiled without."""

    def with_and_without(self, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        function = getattr(kernels, name)
        return function, numba.njit(fastmath=False)(function.py_func)

    def test_nothing_else_has_them(self) -> None:
        compiled = {name: value for name, value in vars(kernels).items() if hasattr(value, "targetoptions")}
        flags = {name: value.targetoptions.get("fastmath") for name, value in compiled.items()}
        assert {name: value for name, value in flags.items() if value} == {
            "_accumulate": {"contract"},
            "_largest": {"contract"},
            "_add_and_write": {"contract", "reassoc"},
            "_add_and_write_complex": {"contract", "reassoc"},
        }

    def cases(self, precision: Precision) -> Iterator[tuple[FloatArray, tuple[Any, ...], npt.NDArray[np.float64]]]:
        """Yield sums so far, the (parts, gain, equaliser) to add to them, and the magnitudes of what is added."""
        rng = np.random.default_rng(0)
        for num_bins in (*range(1, 40), 1025):
            real, imaginary, *before = rng.standard_normal((4, num_bins)).astype(np.float32)
            row = encode_rows((real + 1j * imaginary)[None, None], precision)[0, 0]
            parts, gain = np.ascontiguousarray(row["parts"]), np.float32(rng.uniform(-2.0, 2.0))
            if precision == "int16":
                gain *= row["peak"] / np.float32(LARGEST_INTEGER)
            equaliser = rng.uniform(0.5, 2.0, num_bins).astype(np.float32)
            yield np.array(before), (parts, gain, equaliser), np.abs(gain * equaliser * parts.astype(np.float64))

    def assert_differs_by_a_rounding(self, one: FloatArray, other: FloatArray, added: npt.NDArray[np.float64]) -> None:
        # Fused, a product is not rounded; the sum may then be rounded to the other side.
        difference = np.abs(one.astype(np.float64) - other)
        assert (difference <= 1.01 * ULP * (added + 2.0 * np.abs(other))).all()

    @BOTH
    def test_a_sum_differs_by_a_rounding(self, precision: Precision) -> None:
        fused, plain = self.with_and_without("_accumulate")
        for before, row, added in self.cases(precision):
            fast, slow = before.copy(), before.copy()
            fused(fast, *row)
            plain(slow, *row)
            self.assert_differs_by_a_rounding(fast, slow, added)

    def test_a_largest_magnitude_differs_by_its_last_digits(self) -> None:
        fused, plain = self.with_and_without("_largest")
        for total, _, _ in self.cases("float32"):
            squares = np.empty(total.shape[1], np.float32)
            assert fused(total, squares) == pytest.approx(plain(total, squares), rel=3 * ULP)

    @BOTH
    @pytest.mark.parametrize("blend", [False, True])
    def test_what_is_written_differs_by_its_last_digits(self, precision: Precision, blend: bool) -> None:
        fused, plain = self.with_and_without("_add_and_write")
        for before, row, added in self.cases(precision):
            inverse_scale = np.float32(1.0 / np.hypot(*(np.abs(before) + added)).max())
            fast, slow = before.copy(), before.copy()
            fast_result, slow_result = np.full((2, before.shape[1]), 0.3, np.float32)
            settings = inverse_scale, np.float32(0.7), blend
            assert fused(fast, *row, *settings, fast_result) == 0.0
            assert plain(slow, *row, *settings, slow_result) == 0.0
            self.assert_differs_by_a_rounding(fast, slow, added)
            # 0.7 times a magnitude of up to 1.0, of which each part is off by up to 1.5 roundings, and 0.3.
            np.testing.assert_allclose(fast_result, slow_result, rtol=0.0, atol=6 * ULP)

    @BOTH
    @pytest.mark.parametrize("blend", [False, True])
    def test_parts_that_are_written_differ_by_their_last_digits(self, precision: Precision, blend: bool) -> None:
        fused, plain = self.with_and_without("_add_and_write_complex")
        for before, row, added in self.cases(precision):
            inverse_scale = np.float32(1.0 / np.hypot(*(np.abs(before) + added)).max())
            fast, slow = before.copy(), before.copy()
            fast_result, slow_result = np.full((2, before.shape[1], 2), 0.3, np.float32)
            settings = inverse_scale, np.float32(0.7), blend
            assert fused(fast, *row, *settings, fast_result) == 0.0
            assert plain(slow, *row, *settings, slow_result) == 0.0
            self.assert_differs_by_a_rounding(fast, slow, added)
            np.testing.assert_allclose(fast_result, slow_result, rtol=0.0, atol=6 * ULP)


class TestCompilation:
    def test_it_is_compiled_once_for_each_precision_whatever_is_mixed(self) -> None:
        for seed in range(24):
            random_mix(seed, 1 + seed % 8, seed % 5, seed % 3, (1 + seed % 6, 1 + seed), PRECISIONS[seed % 2]).run()
        of_magnitudes = [signature for signature in kernels._mix.signatures if "4d" in str(signature[-1])]
        assert len(of_magnitudes) == 2

    def test_a_new_process_compiles_nothing_that_one_before_it_has(self) -> None:
        for precision in PRECISIONS:
            mix_of(rows_of([1.0], precision)).run()
        program = """
import numpy as np
from vrtool.dataset import kernels, rows
for precision in ("int16", "float32"):
    crop = rows.encode_rows(np.ones((2, 1, 4), np.complex64), precision)
    signals = kernels.Signals(
        addresses=kernels.addresses_of([crop]), shapes=np.array([[1, 2]]), positions=np.array([0]),
        channels=np.array([[0, 1]]), gains=np.ones((1, 2), np.float32), equalisers=np.ones((1, 4), np.float32),
        num_shared=1, num_instrumental=1,
    )
    result = np.empty((2, 2, 1, 4), np.float32)
    print(kernels.mix_into(signals, crop.dtype["parts"].base, 1e-9, 1.0, result, blend=False), result.min())
for compiled in (kernels._mix, rows._encode_integers):
    print(sum(compiled.stats.cache_hits.values()), sum(compiled.stats.cache_misses.values()))
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == ["1.0 1.0", "1.0 1.0", "2 0", "1 0"]

    def test_other_threads_run_beside_it(self) -> None:
        mix = mix_of(*[noise_rows(np.random.default_rng(0), 200, 2, 1025, "int16")] * 400)
        _, result = mix.run()  # by which it has been compiled
        signals = mix.signals
        seconds: list[float] = []

        def work() -> None:
            seconds.append(time.perf_counter())
            mix_into(signals, mix.part_type, 1e-9, 1.0, result, blend=False)
            seconds.append(time.perf_counter())

        thread = threading.Thread(target=work)
        moments = [time.perf_counter()]
        thread.start()
        while thread.is_alive():
            moments.append(time.perf_counter())
        thread.join()
        # With the interpreter's lock held, this loop would stand still throughout.
        begin, end = seconds
        assert np.diff(moments).max() < 0.5 * (end - begin)
