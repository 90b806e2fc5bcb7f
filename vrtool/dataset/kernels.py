"""The loop that makes training examples: rows of the cache in, normalised magnitudes out, compiled by numba.

It decodes, layers, takes magnitudes, scales, clips and blends, and in doing so reads each row of the cache and writes
each magnitude once; where phases are wanted, it writes the scaled complex numbers instead. One pass is enough because
the scale is found beforehand, mostly from the rows' peaks: no magnitude of a sum exceeds the sum of the peaks, and only
the few rows whose sum of peaks is above the scale known so far are computed ahead.

It starts no threads, since a loader runs one process per core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import carray  # type: ignore[attr-defined]
from numba.core import types
from numba.extending import intrinsic

from vrtool.audio.waveform import FloatArray
from vrtool.dataset.rows import LARGEST_INTEGER, PART_TYPES, PEAK_BYTES, RowArray, largest_magnitude

LARGEST_BOUND = 1e18
"""No magnitude of audio comes near, and its square is still a float32: beyond it, bytes of the cache have changed."""

FUSED = {"contract"}
"""Fast-math: a product may be added without being rounded in between."""
ANY_ORDER = FUSED | {"reassoc"}
"""Fast-math for a sum of zeros, which is the same in any order."""

# The functions around the inner loops are inlined by force: what they pass to each other is counted by reference, which
# took a fifth of the time. The inner loops are compiled once each, as calls.


class Signals(NamedTuple):
    """What is summed to a mixture and an instrumental: in each array an entry per signal.

    Sorted: first those that are in both targets, then up to `num_instrumental` those of the instrumental alone, then
    those of the mixture alone.
    """

    addresses: npt.NDArray[np.uint64]
    """Where the rows of the signal's crop begin in memory."""
    shapes: npt.NDArray[np.int64]
    """(signal, 2): frames of the crop, channels of the track."""
    positions: npt.NDArray[np.int64]
    """The frame of the result at which the crop starts."""
    channels: npt.NDArray[np.int64]
    """(signal, 2): which of the track's channels feeds left and right."""
    gains: FloatArray
    """(signal, 2): signed gains of left and right."""
    equalisers: FloatArray
    """(signal, bin): gains."""
    num_shared: int
    num_instrumental: int


def addresses_of(crops: Sequence[RowArray]) -> npt.NDArray[np.uint64]:
    """Return where crops of rows begin in memory; they have to be kept for as long as these addresses are used."""
    return np.array([rows.__array_interface__["data"][0] for rows in crops], np.uint64)


def mix_into(
    signals: Signals, part_type: np.dtype[Any], least_scale: float, share: float, result: FloatArray, *, blend: bool
) -> float:
    """Write the normalised magnitudes of mixture and instrumental, times `share`; return what 1.0 stands for.

    `result` has shape (2 targets, 2 channels, frame, bin), or (..., bin, 2) for real and imaginary parts in place of
    magnitudes; it is overwritten or, with `blend`, added to. The scale is the largest magnitude of both targets, or
    `least_scale` if that is larger. It is nan, and the result is not to be used, if rows hold numbers that are not
    finite or too large for audio. Frames that no signal reaches are zero.
    """
    step = 1.0 / LARGEST_INTEGER if part_type == PART_TYPES["int16"] else 1.0
    scale: float = _mix(
        signals, np.empty(0, part_type), np.float32(step), np.float32(least_scale), np.float32(share), blend, result
    )
    return scale


def _pointer_code(_: Any, address: Any, element: Any) -> Any:
    """Tell numba how to make a pointer to elements of an array's type from an address."""
    pointer: Any = types.CPointer(element.dtype)  # type: ignore[no-untyped-call]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return pointer(address, element), generate


# By address, as numba compiles anew for every number of arrays in a tuple.
_pointer: Any = intrinsic(_pointer_code)


@numba.njit(cache=True, nogil=True)
def _mix(signals, element, step, least_scale, share, blend, result):  # type: ignore[no-untyped-def]
    num_signals, num_instrumental = signals.positions.size, signals.num_instrumental
    total = np.empty((2, result.shape[3]), np.float32)
    scale = _find_scale(signals, element, step, least_scale, result.shape[:4], total)
    inverse_scale = np.float32(1.0) / scale
    zero = np.float32(0.0)
    for frame in range(result.shape[2]):
        for channel in range(result.shape[1]):
            _clear(total)
            _add(signals, 0, num_instrumental - 1, element, step, frame, channel, total)
            parts, gain = _row(signals, num_instrumental - 1, element, step, frame, channel)
            if num_instrumental == 0:
                gain = np.float32(0.0)  # the row is the last of the mixture's, where -1 counts from the end
            equaliser = signals.equalisers[num_instrumental - 1]
            row = result[1, channel, frame]
            zero += _write(total, parts, gain, equaliser, inverse_scale, share, blend, row)
            _take_instrumental_away(signals, element, step, frame, channel, total)
            _add(signals, num_instrumental, num_signals - 1, element, step, frame, channel, total)
            parts, gain = _row(signals, num_signals - 1, element, step, frame, channel)
            if num_signals == num_instrumental:
                gain = np.float32(0.0)  # it is in the sum already
            equaliser = signals.equalisers[num_signals - 1]
            row = result[0, channel, frame]
            zero += _write(total, parts, gain, equaliser, inverse_scale, share, blend, row)
    return scale + zero


@numba.njit(cache=True, nogil=True)
def _find_scale(signals, element, step, least_scale, shape, total):  # type: ignore[no-untyped-def]
    """Return the largest magnitude of all rows, or `least_scale`, or nan; `total` is scratch."""
    _, num_channels, num_frames, _ = shape
    bounds = _bounds(signals, element, num_frames, num_channels)
    highest = 0
    for place in range(bounds.size):
        if not bounds[place] < np.float32(LARGEST_BOUND):
            return np.float32(np.nan)
        if bounds[place] > bounds[highest]:
            highest = place
    scale = least_scale
    squares = np.empty(total.shape[1], np.float32)
    # The row that may have the largest magnitude comes first: when it has, it spares all others.
    for turn in range(-1, bounds.size):
        place = highest if turn < 0 else turn
        if bounds[place] > scale:
            frame, channel = place // num_channels, place % num_channels
            _clear(total)
            _add(signals, 0, signals.num_instrumental, element, step, frame, channel, total)
            scale = max(scale, _largest(total, squares))
            _take_instrumental_away(signals, element, step, frame, channel, total)
            _add(signals, signals.num_instrumental, signals.positions.size, element, step, frame, channel, total)
            scale = max(scale, _largest(total, squares))
    return scale


@numba.njit(cache=True, nogil=True)
def _bounds(signals, element, num_frames, num_channels):  # type: ignore[no-untyped-def]
    """Return what the magnitudes of each row, frame by frame and in them channel by channel, cannot exceed."""
    bounds = np.zeros(num_frames * num_channels, np.float32)
    num_bins = signals.equalisers.shape[1]
    for number in range(signals.positions.size):
        # Rounding adds up to half a step to either part of a magnitude that meets its bound: 0.71 / 32767.
        loudest = np.max(signals.equalisers[number]) * np.float32(1.00003)
        first = signals.positions[number]
        for frame in range(first, min(first + signals.shapes[number, 0], num_frames)):
            for channel in range(num_channels):
                address = _row_address(signals, number, element, num_bins, frame, channel)
                peak = carray(_pointer(address, signals.gains), (1,))[0]
                bounds[frame * num_channels + channel] += abs(signals.gains[number, channel] * loudest * peak)
    return bounds


@numba.njit(cache=True, nogil=True, forceinline=True)
def _take_instrumental_away(signals, element, step, frame, channel, total):  # type: ignore[no-untyped-def]
    """Leave in the instrumental's sum what is in the mixture as well."""
    if signals.num_instrumental > signals.num_shared:
        _clear(total)
        _add(signals, 0, signals.num_shared, element, step, frame, channel, total)


@numba.njit(cache=True, nogil=True, forceinline=True)
def _add(signals, first, end, element, step, frame, channel, total):  # type: ignore[no-untyped-def]
    """Add a row of each signal from `first` to before `end` to the sum."""
    for number in range(first, end):
        parts, gain = _row(signals, number, element, step, frame, channel)
        _accumulate(total, parts, gain, signals.equalisers[number])


@numba.njit(cache=True, nogil=True, forceinline=True)
def _row(signals, number, element, step, frame, channel):  # type: ignore[no-untyped-def]
    """Return a signal's row (2 parts, bin) and what to multiply it with: nothing where the signal does not reach."""
    num_bins = signals.equalisers.shape[1]
    source_frame = frame - signals.positions[number]
    gain = signals.gains[number, channel] * step
    if not 0 <= source_frame < signals.shapes[number, 0]:
        frame = signals.positions[number]
        gain = np.float32(0.0)
    address = _row_address(signals, number, element, num_bins, frame, channel)
    if element.itemsize == 2:
        gain *= carray(_pointer(address, signals.gains), (1,))[0]
    return carray(_pointer(address + np.uint64(PEAK_BYTES), element), (2, num_bins)), gain


@numba.njit(cache=True, nogil=True, forceinline=True)
def _row_address(signals, number, element, num_bins, frame, channel):  # type: ignore[no-untyped-def]
    row_bytes = PEAK_BYTES + 2 * num_bins * element.itemsize
    row = (frame - signals.positions[number]) * signals.shapes[number, 1] + signals.channels[number, channel]
    return signals.addresses[number] + np.uint64(row * row_bytes)


@numba.njit(cache=True, nogil=True)
def _clear(total):  # type: ignore[no-untyped-def]
    for bin_ in range(total.shape[1]):
        total[0, bin_] = 0.0
        total[1, bin_] = 0.0


@numba.njit(cache=True, nogil=True, fastmath=FUSED)
def _accumulate(total, parts, gain, equaliser):  # type: ignore[no-untyped-def]
    for bin_ in range(equaliser.size):
        weight = gain * equaliser[bin_]
        total[0, bin_] += weight * np.float32(parts[0, bin_])
        total[1, bin_] += weight * np.float32(parts[1, bin_])


@numba.njit(cache=True, nogil=True, fastmath=FUSED)
def _largest(total, squares):  # type: ignore[no-untyped-def]
    for bin_ in range(squares.size):
        squares[bin_] = total[0, bin_] * total[0, bin_] + total[1, bin_] * total[1, bin_]
    return np.sqrt(largest_magnitude(squares.view(np.int32)))


@numba.njit(cache=True, nogil=True, forceinline=True)
def _write(total, parts, gain, equaliser, inverse_scale, share, blend, row):  # type: ignore[no-untyped-def]
    """Add the last signal and write the sum as the row's shape asks for; return zero, or nan."""
    # numba compiles one branch alone: it knows the number of dimensions.
    if row.ndim == 1:
        return _add_and_write(total, parts, gain, equaliser, inverse_scale, share, blend, row)
    return _add_and_write_complex(total, parts, gain, equaliser, inverse_scale, share, blend, row)


@numba.njit(cache=True, nogil=True, fastmath=ANY_ORDER)
def _add_and_write_complex(total, parts, gain, equaliser, inverse_scale, share, blend, row):  # type: ignore[no-untyped-def]
    """Add the last signal and write the sum's scaled parts (bin, 2); return zero, or nan if one is not finite."""
    zero = np.float32(0.0)
    factor = inverse_scale * share
    for bin_ in range(equaliser.size):
        weight = gain * equaliser[bin_]
        real = total[0, bin_] + weight * np.float32(parts[0, bin_])
        imaginary = total[1, bin_] + weight * np.float32(parts[1, bin_])
        total[0, bin_] = real
        total[1, bin_] = imaginary
        # The square overflows where the magnitude would be none of audio.
        zero += (real * real + imaginary * imaginary) * np.float32(0.0)
        row[bin_, 0] = row[bin_, 0] + factor * real if blend else factor * real
        row[bin_, 1] = row[bin_, 1] + factor * imaginary if blend else factor * imaginary
    return zero


@numba.njit(cache=True, nogil=True, fastmath=ANY_ORDER)
def _add_and_write(total, parts, gain, equaliser, inverse_scale, share, blend, row):  # type: ignore[no-untyped-def]
    """Add the last signal and write the sum's normalised magnitudes; return zero, or nan if one is not finite."""
    zero = np.float32(0.0)
    for bin_ in range(equaliser.size):
        weight = gain * equaliser[bin_]
        real = total[0, bin_] + weight * np.float32(parts[0, bin_])
        imaginary = total[1, bin_] + weight * np.float32(parts[1, bin_])
        total[0, bin_] = real
        total[1, bin_] = imaginary
        magnitude = np.sqrt(real * real + imaginary * imaginary) * inverse_scale
        zero += magnitude * np.float32(0.0)
        value = share * min(magnitude, np.float32(1.0))
        row[bin_] = row[bin_] + value if blend else value
    return zero
