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
    edges_hz = row_edges_hz(spec)
    rows = []
    for low_hz, high_hz in pairwise(edges_hz):
        first = low_hz * spec.n_fft / spec.sample_rate
        last = high_hz * spec.n_fft / spec.sample_rate
        # Down where bins lie further apart than rows, the nearest one; above, the loudest of those within the row.
        start = min(round((first + last) / 2), len(magnitude) - 1)
        within = range(math.ceil(first), math.floor(last) + 1)
        rows.append(magnitude[within.start : within.stop].max(axis=0) if len(within) > 1 else magnitude[start])
    decibels = 20.0 * np.log10(np.maximum(np.stack(rows[::-1]) / max(loudest, SMALLEST_MAGNITUDE), SMALLEST_MAGNITUDE))
    share = np.clip(1.0 + decibels / DYNAMIC_RANGE_DB, 0.0, 1.0)
    levels: ByteArray = np.rint(255.0 * share).astype(np.uint8)
    return levels


def row_edges_hz(spec: StftSpec) -> npt.NDArray[np.float64]:
    """Return the frequencies between which the rows lie, from low to high: shape (NUM_ROWS + 1,)."""
    highest_hz = min(HIGHEST_HZ, spec.sample_rate / 2)
    return np.geomspace(min(LOWEST_HZ, highest_hz / 2), highest_hz, NUM_ROWS + 1)


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
