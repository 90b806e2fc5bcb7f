"""Spectrograms as pictures: levels in dB over time and the logarithm of frequency, as PNG files of a few kilobytes."""

from __future__ import annotations

import math
import struct
import zlib
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vrtool.audio.spectrogram import ComplexArray, StftSpec
from vrtool.audio.waveform import FloatArray

ByteArray = npt.NDArray[np.uint8]

NUM_ROWS = 160
LOWEST_HZ, HIGHEST_HZ = 60.0, 16000.0
DYNAMIC_RANGE_DB = 80.0
SMALLEST_MAGNITUDE = 1e-9

# From black through violet and orange to a pale yellow, of evenly rising lightness.
COLOUR_STOPS = (
    (4, 4, 16), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122),
    (229, 80, 100), (251, 135, 97), (254, 194, 135), (252, 253, 191),
)  # fmt: skip


def spectrogram_levels(spectrogram: ComplexArray, spec: StftSpec, loudest: float) -> ByteArray:
    """Return a picture's levels (row, frame), 255 standing for the magnitude `loudest` and 0 for 80 dB below it.

    `spectrogram` is complex (channel, bin, frame). Rows go from high frequency to low, each as many octaves tall.
    """
    magnitude: FloatArray = np.abs(spectrogram).mean(axis=0)
    rows = row_magnitudes(magnitude.T, spec, NUM_ROWS).T[::-1]
    share = np.clip(1.0 + relative_db(rows, loudest) / DYNAMIC_RANGE_DB, 0.0, 1.0)
    levels: ByteArray = np.rint(255.0 * share).astype(np.uint8)
    return levels


def relative_db(magnitude: FloatArray, loudest: float) -> FloatArray:
    """Return magnitudes in dB relative to `loudest`, -180 for silence."""
    share = np.maximum(magnitude / max(loudest, SMALLEST_MAGNITUDE), SMALLEST_MAGNITUDE)
    decibels: FloatArray = 20.0 * np.log10(share)
    return decibels


def row_magnitudes(magnitude: FloatArray, spec: StftSpec, num_rows: int) -> FloatArray:
    """Return the magnitude (frame, row) that stands for each row of a picture, given those of bins (frame, bin).

    Rows go from low frequency to high, each as many octaves tall: where bins lie further apart than rows, the nearest
    one, above the loudest of those within the row.
    """
    bounds = _row_bounds(spec, num_rows)
    # A bin more, for the end of the last row must be one that there is.
    padded = np.pad(magnitude, ((0, 0), (0, 1)))
    rows: FloatArray = np.maximum.reduceat(padded, bounds.ravel(), axis=1)[:, ::2]
    return rows


@lru_cache(maxsize=8)
def _row_bounds(spec: StftSpec, num_rows: int) -> npt.NDArray[np.intp]:
    """Return the first bin of each row and the one after its last: shape (row, 2)."""
    bounds = []
    for low_hz, high_hz in pairwise(row_edges_hz(spec, num_rows)):
        first = low_hz * spec.n_fft / spec.sample_rate
        last = high_hz * spec.n_fft / spec.sample_rate
        nearest = min(round((first + last) / 2), spec.num_bins - 1)
        within = (math.ceil(first), min(math.floor(last) + 1, spec.num_bins))
        bounds.append(within if within[1] - within[0] > 1 else (nearest, nearest + 1))
    return np.array(bounds, np.intp)


def row_edges_hz(spec: StftSpec, num_rows: int = NUM_ROWS) -> npt.NDArray[np.float64]:
    """Return the frequencies between which the rows lie, from low to high: shape (num_rows + 1,)."""
    highest_hz = min(HIGHEST_HZ, spec.sample_rate / 2)
    return np.geomspace(min(LOWEST_HZ, highest_hz / 2), highest_hz, num_rows + 1)


def frequency_share(frequency_hz: float, spec: StftSpec) -> float:
    """Return how high a frequency stands in a picture: 0 at its lower edge, 1 at its upper one."""
    edges_hz = row_edges_hz(spec)
    return math.log(frequency_hz / edges_hz[0]) / math.log(edges_hz[-1] / edges_hz[0])


def png(levels: ByteArray) -> bytes:
    """Return a PNG file of levels (row, column) in the colours of `palette`.

    PNG specification, second edition: an indexed picture (colour type 3, 8 bits), each row without a filter.
    """
    num_rows, num_columns = levels.shape
    header = struct.pack(">IIBBBBB", num_columns, num_rows, 8, 3, 0, 0, 0)
    rows = np.pad(levels, ((0, 0), (1, 0))).tobytes()  # 0 before each row: no filter
    chunks = ((b"IHDR", header), (b"PLTE", palette().tobytes()), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@lru_cache(maxsize=1)
def palette() -> ByteArray:
    """Return the colour of each level: shape (256, 3 of red, green, blue)."""
    places = np.linspace(0.0, 255.0, len(COLOUR_STOPS))
    stops = np.array(COLOUR_STOPS, np.float64)
    channels = [np.interp(np.arange(256), places, stops[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)
