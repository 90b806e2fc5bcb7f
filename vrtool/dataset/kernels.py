"""The loops over spectrogram values, compiled by numba: quantise, layer and measure, scale and mix.

Each is one plain loop per frame whose scratch memory stays in the processor's first cache. They check nothing: their
callers hand them contiguous arrays of the right shapes. None starts threads, since a loader runs one process per core.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from vrtool.audio.spectrogram import ComplexArray
from vrtool.audio.waveform import FloatArray

ShortArray = npt.NDArray[np.int16]

LARGEST_INTEGER = 32767.0
SILENT_STEP = 1e-37
"""A frame whose largest part is below this is stored as zeros: its scale's reciprocal would overflow."""


@numba.njit(cache=True, nogil=True)
def _quantise(parts: FloatArray, values: ShortArray, scale: FloatArray) -> None:
    num_channels, num_frames, num_parts = parts.shape
    for channel in range(num_channels):
        for frame in range(num_frames):
            source, target = parts[channel, frame], values[frame, channel]
            largest = np.float32(0.0)
            for position in range(num_parts):
                largest = max(largest, abs(source[position]))
            step = largest / np.float32(LARGEST_INTEGER)
            inverse = np.float32(1.0) / step if step > SILENT_STEP else np.float32(0.0)
            scale[frame, channel] = step
            for position in range(num_parts):
                target[position] = np.int16(np.rint(source[position] * inverse))


def quantise(block: ComplexArray) -> tuple[ShortArray, FloatArray]:
    """Return a block's integers and scales.

    `block` has shape (channel, frame, bin); the integers (frame, channel, bin, 2) span -32767 to 32767 in every frame
    that is not silent, the scales have shape (frame, channel). Rounding errs by at most half a step in either part:
    93 dB below the frame's largest part.
    """
    num_channels, num_frames, num_bins = block.shape
    values = np.empty((num_frames, num_channels, 2 * num_bins), np.int16)
    scale = np.empty((num_frames, num_channels), np.float32)
    _quantise(np.ascontiguousarray(block).view(np.float32), values, scale)
    return values.reshape(num_frames, num_channels, num_bins, 2), scale


@numba.njit(cache=True, nogil=True)
def layer_magnitudes(
    values: tuple[ShortArray, ...],
    scales: tuple[FloatArray, ...],
    positions: npt.NDArray[np.int64],
    channels: npt.NDArray[np.int64],
    gains: FloatArray,
    equalisers: FloatArray,
    magnitudes: FloatArray,
) -> np.float32:
    """Sum layers of quantised spectrograms into mixture and instrumental, write their magnitudes, return the largest.

    For each layer: `values` (frame, channel, bin, 2) and `scales` (frame, channel); `positions`, the frame of the
    result at which it starts; `channels` (layer, 2), which of its channels feeds left and right; `gains` (layer, 2
    targets, 2 channels), how much of it goes into the mixture and into the instrumental; `equalisers` (layer, bin).
    `magnitudes` (2 targets, 2 channels, frame, bin) is overwritten; frames that no layer reaches become zero.
    """
    _, num_channels, num_frames, num_bins = magnitudes.shape
    mixture = np.empty((num_bins, 2), np.float32)
    instrumental = np.empty((num_bins, 2), np.float32)
    largest = np.float32(0.0)
    for frame in range(num_frames):
        for channel in range(num_channels):
            mixture[:] = 0.0
            instrumental[:] = 0.0
            for layer in range(len(values)):
                source_frame = frame - positions[layer]
                if source_frame < 0 or source_frame >= values[layer].shape[0]:
                    continue
                source_channel = channels[layer, channel]
                source = values[layer][source_frame, source_channel]
                step = scales[layer][source_frame, source_channel]
                into_mixture = step * gains[layer, 0, channel]
                into_instrumental = step * gains[layer, 1, channel]
                equaliser = equalisers[layer]
                if into_mixture != 0.0:
                    _accumulate(mixture, source, equaliser, into_mixture)
                if into_instrumental != 0.0:
                    _accumulate(instrumental, source, equaliser, into_instrumental)
            largest = max(largest, _write_magnitudes(mixture, magnitudes[0, channel, frame]))
            largest = max(largest, _write_magnitudes(instrumental, magnitudes[1, channel, frame]))
    return largest


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _accumulate(total: FloatArray, source: ShortArray, equaliser: FloatArray, gain: float) -> None:
    for bin_ in range(total.shape[0]):
        weight = gain * equaliser[bin_]
        total[bin_, 0] += weight * np.float32(source[bin_, 0])
        total[bin_, 1] += weight * np.float32(source[bin_, 1])


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nnan", "nsz"})
def _write_magnitudes(total: FloatArray, row: FloatArray) -> np.float32:
    largest = np.float32(0.0)
    for bin_ in range(total.shape[0]):
        real, imaginary = total[bin_, 0], total[bin_, 1]
        magnitude = np.sqrt(real * real + imaginary * imaginary)
        row[bin_] = magnitude
        largest = max(largest, magnitude)
    return largest


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def scale_into(magnitudes: FloatArray, inverse_scale: float, weight: float, result: FloatArray) -> None:
    """Add `weight` times the scaled magnitudes, clipped to [0, 1], to `result` of the same shape."""
    source, target = magnitudes.reshape(-1), result.reshape(-1)
    factor, share = np.float32(inverse_scale), np.float32(weight)
    for position in range(source.size):
        target[position] += share * min(source[position] * factor, np.float32(1.0))
