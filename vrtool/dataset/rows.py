"""How the cache stores a spectrogram: in rows, one for each frame and channel.

A row is its largest magnitude, `peak`, followed by `parts`: all real parts, then all imaginary ones, so that loops over
bins read memory in order. As float32 the parts are what they are; as int16 they count steps of peak / 32767: rounding
errs by half a step in either part, 93 dB below the row's own peak.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt

from vrtool.audio.spectrogram import ComplexArray
from vrtool.audio.waveform import FloatArray

Precision = Literal["int16", "float32"]
RowArray = npt.NDArray[np.void]
"""Rows of shape (frame, channel), of the type that `row_type` gives."""

PART_TYPES: dict[Precision, np.dtype[Any]] = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}
PEAK_BYTES = 4
LARGEST_INTEGER = 32767.0
ROUNDER = np.float32(1.5 * 2**23)
"""Added and taken away again, it rounds numbers below 2^22 to the nearest integer, eight at a time."""
SILENT_PEAK = 1e-30
"""A row whose peak is below this is stored as zeros: the reciprocal of its step would overflow."""


def row_type(num_bins: int, precision: Precision) -> np.dtype[Any]:
    """Return the type of a row: `peak`, a float32, and `parts` of shape (2, bin)."""
    return np.dtype([("peak", "<f4"), ("parts", PART_TYPES[precision], (2, num_bins))])


def encode_rows(block: ComplexArray, precision: Precision) -> RowArray:
    """Return the rows (frame, channel) of a block of frames (channel, frame, bin)."""
    num_channels, num_frames, num_bins = block.shape
    rows = np.empty((num_frames, num_channels), row_type(num_bins, precision))
    if precision == "float32":
        rows["peak"] = np.abs(block).max(axis=-1).T
        rows["parts"][:, :, 0] = block.real.transpose(1, 0, 2)
        rows["parts"][:, :, 1] = block.imag.transpose(1, 0, 2)
        return rows
    # The compiled loop sees integers without gaps, of which the first two of each row are the bytes of its peak.
    words = rows.view(PART_TYPES["int16"]).reshape(num_frames, num_channels, -1)
    parts = words[:, :, PEAK_BYTES // 2 :]
    rows["peak"] = _encode_integers(np.ascontiguousarray(block).view(np.float32), words)
    assert parts.shape[2] == 2 * num_bins
    return rows


def largest_difference(one: ComplexArray, other: ComplexArray) -> float:
    """Return the largest magnitude of the difference of two blocks of one shape."""
    difference = np.subtract(one, other).reshape(-1)
    squares = np.empty(difference.size, np.float32)
    _squares(difference.view(np.float32), np.float32(1.0), squares)
    return math.sqrt(largest_magnitude(squares.view(np.int32)))


def decode_rows(rows: RowArray) -> ComplexArray:
    """Return the spectrogram of rows (frame, channel): complex64 (channel, bin, frame)."""
    parts = rows["parts"]
    spectrogram = np.empty((rows.shape[1], rows.shape[0], parts.shape[-1]), np.complex64)
    step = rows["peak"] * np.float32(1.0 / LARGEST_INTEGER) if parts.dtype == PART_TYPES["int16"] else np.float32(1.0)
    steps = np.broadcast_to(step, rows.shape)[:, :, None]
    spectrogram.real = (parts[:, :, 0] * steps).transpose(1, 0, 2)
    spectrogram.imag = (parts[:, :, 1] * steps).transpose(1, 0, 2)
    return spectrogram.transpose(0, 2, 1)


@numba.njit(cache=True, nogil=True)
def largest_magnitude(bits: npt.NDArray[np.int32]) -> np.float32:
    """Return the largest absolute value of float32 numbers that are given by their bits, as a view.

    Without the sign, these integers have the order of the numbers; unlike them they are compared eight at a time. A nan
    is larger than all.
    """
    largest = np.int32(0)
    for position in range(bits.size):
        largest = max(largest, bits[position] & np.int32(0x7FFFFFFF))
    found: np.float32 = np.array([largest], np.int32).view(np.float32)[0]
    return found


@numba.njit(cache=True, nogil=True)
def _squares(row: FloatArray, factor: np.float32, squares: FloatArray) -> None:
    for position in range(squares.size):
        real, imaginary = row[2 * position] * factor, row[2 * position + 1] * factor
        squares[position] = real * real + imaginary * imaginary


@numba.njit(cache=True, nogil=True)
def _encode_integers(source: FloatArray, words: npt.NDArray[np.int16]) -> FloatArray:
    """Write parts (channel, frame, 2 x bin) to the end of `words` (frame, channel, 2 + 2 x bin); return the peaks."""
    num_channels, num_frames, num_parts = source.shape
    num_bins = num_parts // 2
    peaks = np.zeros((num_frames, num_channels), np.float32)
    squares = np.empty(num_bins, np.float32)
    for channel in range(num_channels):
        for frame in range(num_frames):
            row = source[channel, frame]
            real, imaginary = words[frame, channel, 2 : 2 + num_bins], words[frame, channel, 2 + num_bins :]
            # Measured relative to the largest part: the squares of faint rows would vanish.
            largest = largest_magnitude(row.view(np.int32))
            factor = np.float32(0.0)
            if largest > np.float32(SILENT_PEAK):
                _squares(row, np.float32(1.0) / largest, squares)
                relative = np.sqrt(largest_magnitude(squares.view(np.int32)))
                peaks[frame, channel] = largest * relative
                factor = np.float32(LARGEST_INTEGER) / (largest * relative)
            for position in range(num_bins):
                real[position] = np.int16(row[2 * position] * factor + ROUNDER - ROUNDER)
                imaginary[position] = np.int16(row[2 * position + 1] * factor + ROUNDER - ROUNDER)
    return peaks
