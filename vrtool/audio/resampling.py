"""Change the sample rate, of a stream of any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from vrtool.audio.formats import FloatArray

# VHQ: an error some 155 dB below the signal, beneath the resolution of float32; HQ's 130 dB would show in a 24-bit
# file, and is only a fifth faster.
QUALITY = "VHQ"

PROBE_SECONDS = 5
PROBES_PER_SECOND = 1000


def num_resampled(num_samples: int, from_rate: int, to_rate: int) -> int:
    """Return how many samples there are at another rate: the last begun one counts."""
    return -(-num_samples * to_rate // from_rate)


class Resampler:
    """A stream of blocks (channel, sample) at another sample rate, as they come.

    Output sample m is the signal at input sample m * from_rate / to_rate: what is delayed is when a sample appears, not
    where it lies.
    """

    def __init__(self, from_rate: int, to_rate: int, num_channels: int) -> None:
        self._from_rate = from_rate
        self._to_rate = to_rate
        self._num_channels = num_channels
        self._stream = soxr.ResampleStream(from_rate, to_rate, num_channels, dtype="float32", quality=QUALITY)
        self._num_read = 0
        self._num_written = 0

    def push(self, block: FloatArray) -> FloatArray:
        """Take the next samples, return those at the other rate that are known by now, if any."""
        self._num_read += block.shape[1]
        return self._resample(np.ascontiguousarray(block.T), is_last=False)

    def finish(self) -> FloatArray:
        """Return the samples still owed: the last makes the stream as long as `num_resampled` says."""
        # soxr rounds the length down for some signals. Silence for one output sample behind the input makes it at least
        # the ceiling; what is too much is cut off.
        missing = num_resampled(self._num_read, self._from_rate, self._to_rate) - self._num_written
        silence = np.zeros((-(-self._from_rate // self._to_rate), self._num_channels), np.float32)
        return self._resample(silence, is_last=True)[:, :missing]

    def _resample(self, block: FloatArray, *, is_last: bool) -> FloatArray:
        resampled: FloatArray = self._stream.resample_chunk(block, last=is_last)
        self._num_written += len(resampled)
        return resampled.T


def resample_blocks(blocks: Iterable[FloatArray], from_rate: int, to_rate: int) -> Iterator[FloatArray]:
    """Yield a stream of blocks (channel, sample) at another rate, `num_resampled` samples in all."""
    if from_rate == to_rate:
        yield from blocks
        return
    resampler: Resampler | None = None
    for block in blocks:
        if resampler is None:
            resampler = Resampler(from_rate, to_rate, len(block))
        resampled = resampler.push(block)
        if resampled.shape[1]:
            yield resampled
    if resampler is not None:
        yield resampler.finish()


def resampling_delay_seconds(from_rate: int, to_rate: int) -> float:
    """Return the time after which a sample has appeared at the other rate: the longest that a stream holds one back.

    After n samples in, at least (n / from_rate - delay) * to_rate are out. 0 where the rates are equal.
    """
    if from_rate == to_rate:
        return 0.0
    # Filters look ahead, and soxr's FFT filters take whole blocks, stage by stage, so that what it holds back rises and
    # falls; it tells neither. It depends on counts alone: a stream of silence shows it. Five seconds are enough for the
    # highest of those saw teeth, to the millisecond between two looks.
    step = max(1, from_rate // PROBES_PER_SECOND)
    silence = np.zeros((1, step), np.float32)
    resampler = Resampler(from_rate, to_rate, 1)
    num_written = 0
    longest = 0.0
    for num_steps in range(1, PROBE_SECONDS * from_rate // step):
        num_written += resampler.push(silence).shape[1]
        longest = max(longest, num_steps * step / from_rate - num_written / to_rate)
    return longest + step / from_rate + 1 / to_rate
