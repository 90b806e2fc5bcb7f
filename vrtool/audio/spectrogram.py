"""The short-time Fourier transform: the only one of the project, and its exact inverse.

Frame t is centred on sample t * hop_length of a signal with silence before and after it (librosa's
center=True with pad_mode="constant"), under a periodic Hann window. The signal is continued with silence to a
whole number of hops, so that a frame is centred at or after its last sample; without that frame the tail
would lie under one window's foot only, where nothing can be inverted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft

from vrtool.audio.formats import FloatArray
from vrtool.audio.signal import ArraySignal, Signal, read_padded
from vrtool.errors import InputError

ComplexArray = npt.NDArray[np.complex64]

# Frames transformed at a time: with n_fft 2048 and two channels a block's scratch is about 1 MB, which stays
# in the processor's cache.
BLOCK_FRAMES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class StftSpec:
    """What fixes a spectrogram: the sample rate in Hz, the window's length and the hop, both in samples.

    Raises InputError unless the sample rate is positive, `n_fft` is even and windows overlap by at least a
    half.
    """

    sample_rate: int = 44100
    n_fft: int = 2048
    hop_length: int = 1024

    def __post_init__(self) -> None:
        if self.sample_rate < 1:
            raise InputError(f"sample_rate must be a positive number of Hz, found {self.sample_rate}; 44100 is usual")
        if self.n_fft < 2 or self.n_fft % 2:
            raise InputError(f"n_fft must be a positive even number of samples, found {self.n_fft}; 2048 is usual")
        # With half overlap the squared windows add up to at least 1/2 everywhere (sin^4 + cos^4); with less
        # overlap they come near zero between the frames, and what was there is lost.
        if not 1 <= self.hop_length <= self.n_fft // 2:
            raise InputError(
                f"hop_length must be from 1 to half of n_fft ({self.n_fft // 2}), found {self.hop_length}; "
                "a spectrogram with larger hops cannot be turned back into audio"
            )

    @property
    def num_bins(self) -> int:
        """The number of bins, from 0 Hz to half the sample rate, both included."""
        return self.n_fft // 2 + 1

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of `num_samples` samples: one per hop begun, and one at the end."""
        return 1 + math.ceil(num_samples / self.hop_length)


@lru_cache(maxsize=8)
def hann_window(n_fft: int) -> FloatArray:
    """Return the periodic Hann window of `n_fft` samples: shape (n_fft,), from 0 to 1."""
    # Periodic: one sample more of the symmetric window, dropped, so that shifted copies add up to a constant.
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    window.flags.writeable = False
    return window


def stft(samples: FloatArray, spec: StftSpec) -> ComplexArray:
    """Return the spectrogram of `samples` (channel, sample): complex64 (channel, bin, frame).

    A full-scale sine has a magnitude of n_fft / 4. The array is a view of time-major memory (channel, frame,
    bin), so that a run of frames lies together.
    """
    num_channels, num_samples = samples.shape
    spectrogram = np.empty((num_channels, spec.num_frames(num_samples), spec.num_bins), np.complex64)
    start = 0
    for block in stft_blocks(ArraySignal(samples), spec):
        spectrogram[:, start : start + block.shape[1]] = block
        start += block.shape[1]
    return spectrogram.transpose(0, 2, 1)


def stft_blocks(signal: Signal, spec: StftSpec, block_frames: int = BLOCK_FRAMES) -> Iterator[ComplexArray]:
    """Yield a signal's spectrogram piece by piece, time-major and in order.

    Each block is complex64 (channel, frame, bin) with `block_frames` frames, the last one with what is left.
    Memory is bounded by the block, however long the signal.
    """
    for segment in stft_segments(signal, spec, block_frames):
        yield transform_segment(segment, spec)


def stft_segments(signal: Signal, spec: StftSpec, block_frames: int = BLOCK_FRAMES) -> Iterator[FloatArray]:
    """Yield the samples (channel, sample) under the windows of each block of frames: they overlap.

    A segment of n frames has n - 1 hops and one window; from its sample n_fft / 2 on there are the n hops that
    begin with the frames' centres. Silence surrounds the signal.
    """
    num_frames = spec.num_frames(signal.num_samples)
    for start in range(0, num_frames, block_frames):
        count = min(block_frames, num_frames - start)
        length = (count - 1) * spec.hop_length + spec.n_fft
        yield read_padded(signal, start * spec.hop_length - spec.n_fft // 2, length)


def transform_segment(segment: FloatArray, spec: StftSpec) -> ComplexArray:
    """Return the frames of a segment: complex64 (channel, frame, bin)."""
    # Decoders interleave channels: put in order once here, not for every window.
    samples = np.ascontiguousarray(segment)
    frames = np.lib.stride_tricks.sliding_window_view(samples, spec.n_fft, axis=1)[:, :: spec.hop_length]
    spectrum: ComplexArray = scipy.fft.rfft(frames * hann_window(spec.n_fft), overwrite_x=True)
    return spectrum


def istft(spectrogram: ComplexArray, spec: StftSpec, num_samples: int) -> FloatArray:
    """Return the signal of a `spectrogram` (channel, bin, frame): float32 (channel, num_samples).

    Inverts `stft` to float32 precision; for a spectrogram that no signal has, the result is the signal whose
    own is nearest in the least-squares sense (Griffin and Lim, "Signal estimation from modified short-time
    Fourier transform", 1984, equation 6).
    """
    num_channels, num_bins, num_frames = spectrogram.shape
    assert num_bins == spec.num_bins
    assert num_frames == spec.num_frames(num_samples)
    hop = spec.hop_length
    # The overlap-add is done hop by hop: a frame is `num_parts` rows of one hop (the last filled up with
    # zeros when the hop does not divide n_fft), and part k of frame t is added to row t + k. No loop over
    # frames is needed.
    num_parts = math.ceil(spec.n_fft / hop)
    rows = np.empty((num_channels, num_frames + num_parts - 1, hop), np.float32)
    window = hann_window(spec.n_fft)
    # Sums in float64: with a small hop they have hundreds of terms. `carry` is what the last block began.
    carry = np.zeros((num_channels, num_parts - 1, hop))
    for start in range(0, num_frames, BLOCK_FRAMES):
        block = spectrogram[:, :, start : start + BLOCK_FRAMES].transpose(0, 2, 1)
        count = block.shape[1]
        frames = np.zeros((num_channels, count, num_parts * hop), np.float32)
        np.multiply(scipy.fft.irfft(block, spec.n_fft), window, out=frames[:, :, : spec.n_fft])
        parts = frames.reshape(num_channels, count, num_parts, hop)
        sums = np.zeros((num_channels, count + num_parts - 1, hop))
        sums[:, : num_parts - 1] = carry
        for part in range(num_parts):
            sums[:, part : part + count] += parts[:, :, part]
        rows[:, start : start + count] = sums[:, :count]
        carry = sums[:, count:]
    rows[:, num_frames:] = carry
    _divide_by_window_sum(rows, window, num_frames)
    # Row 0 begins where frame 0 does, half a window before the signal.
    signal: FloatArray = rows.reshape(num_channels, -1)
    return signal[:, spec.n_fft // 2 :][:, :num_samples]


def _divide_by_window_sum(rows: FloatArray, window: FloatArray, num_frames: int) -> None:
    """Divide overlap-added `rows` (channel, row, hop) by the sum of the squared windows on each sample."""
    _, num_rows, hop = rows.shape
    num_parts = num_rows - num_frames + 1
    squares = np.zeros(num_parts * hop)
    squares[: window.size] = np.square(window, dtype=np.float64)
    parts = squares.reshape(num_parts, hop)
    # All rows between have every part of a frame on them, hence one and the same sum.
    rows[:, num_parts - 1 : num_frames] /= parts.sum(0, dtype=np.float64).astype(np.float32)
    for row in range(num_rows):
        if num_parts - 1 <= row < num_frames:
            continue
        total = parts[max(0, row - num_frames + 1) : row + 1].sum(0)
        # Close to zero only at the outer feet of the first and last window, outside of the signal.
        rows[:, row] /= np.maximum(total, 1e-3).astype(np.float32)
