"""Raw PCM, interleaved and little-endian as it flows through pipes: bytes to samples and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from vrtool.audio.encoding import quantise
from vrtool.audio.formats import FloatArray
from vrtool.errors import AudioError

PcmFormat = Literal["s16le", "s24le", "s32le", "f32le"]
"""Signed integers of 16, 24 (in three bytes) and 32 bits, and 32-bit floats: ffmpeg's names of raw formats."""

SAMPLE_BYTES: dict[PcmFormat, int] = {"s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}

# The largest float32 below full scale, which itself is one step more than integers reach.
BELOW_FULL_SCALE = np.nextafter(np.float32(1), np.float32(0))


def decode_pcm(data: bytes, pcm: PcmFormat, num_channels: int) -> FloatArray:
    """Return the samples (channel, sample) of whole sample frames, integers as ±1 full scale.

    Exact but for s32le, of whose 32 bits float32 holds 24.
    """
    if pcm == "f32le":
        samples = np.frombuffer(data, "<f4").astype(np.float32)
    else:
        # An integer's bytes in the upper end of int32: of any width, full scale is then 2^31.
        width = SAMPLE_BYTES[pcm]
        steps = np.zeros((len(data) // width, 4), np.uint8)
        steps[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
        samples = steps.view("<i4")[:, 0].astype(np.float32) * np.float32(2.0**-31)
        np.minimum(samples, BELOW_FULL_SCALE, out=samples)
    return samples.reshape(-1, num_channels).T


def encode_pcm(samples: FloatArray, pcm: PcmFormat) -> tuple[bytes, int]:
    """Return samples (channel, sample) as PCM, and how many had to be clipped to the full scale of an integer format.

    Inverts `decode_pcm`; between its steps integers are rounded to the nearest one, undithered.
    """
    interleaved = np.ascontiguousarray(samples.T)
    if pcm == "f32le":
        return interleaved.astype("<f4").tobytes(), 0
    width = SAMPLE_BYTES[pcm]
    steps, num_clipped = quantise(interleaved, 8 * width)
    return steps.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 4 - width :].tobytes(), num_clipped


def decode_pcm_stream(pieces: Iterable[bytes], pcm: PcmFormat, num_channels: int) -> Iterator[FloatArray]:
    """Yield the samples (channel, sample) of pieces of any lengths, all that has come whole as soon as it has.

    Raises AudioError, after all that was whole, if the stream ends within a sample frame.
    """
    frame_bytes = num_channels * SAMPLE_BYTES[pcm]
    rest = b""
    for piece in pieces:
        data = rest + piece
        num_whole = len(data) - len(data) % frame_bytes
        rest = data[num_whole:]
        if num_whole:
            yield decode_pcm(data[:num_whole], pcm, num_channels)
    if rest:
        raise AudioError(
            f"the PCM stream ends {len(rest)} bytes into a sample frame of {frame_bytes} ({num_channels} x {pcm}); "
            "it was cut short, or is coded otherwise"
        )
