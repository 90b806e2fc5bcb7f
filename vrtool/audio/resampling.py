"""Change the sample rate, of a stream of any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from vrtool.audio.formats import FloatArray

# VHQ: an error some 155 dB below the signal, beneath the resolution of float32; HQ's 130 dB would show in a 24-bit
# file, and is only a fifth faster.
QUALITY = "VHQ"


def num_resampled(num_samples: int, from_rate: int, to_rate: int) -> int:
    """Return how many samples there are at another rate: the last begun one counts."""
    return -(-num_samples * to_rate // from_rate)


def resample_blocks(blocks: Iterable[FloatArray], from_rate: int, to_rate: int) -> Iterator[FloatArray]:
    """Yield a stream of blocks (channel, sample) at another rate, `num_resampled` samples in all."""
    if from_rate == to_rate:
        yield from blocks
        return
    stream: soxr.ResampleStream | None = None
    num_read = num_written = num_channels = 0
    for block in blocks:
        if stream is None:
            num_channels = len(block)
            stream = soxr.ResampleStream(from_rate, to_rate, num_channels, dtype="float32", quality=QUALITY)
        num_read += block.shape[1]
        resampled = stream.resample_chunk(np.ascontiguousarray(block.T))
        num_written += len(resampled)
        if len(resampled):
            yield resampled.T
    if stream is None:
        return
    # soxr rounds the length down for some signals. Silence for one output sample behind the input makes it at least
    # the ceiling; what is too much is cut off.
    silence = np.zeros((-(-from_rate // to_rate), num_channels), np.float32)
    rest = stream.resample_chunk(silence, last=True)
    yield rest[: num_resampled(num_read, from_rate, to_rate) - num_written].T
