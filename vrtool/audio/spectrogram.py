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
from vrtool.audio.overlap_add import OverlapAdd
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

    @property
    def hop_seconds(self) -> float:
        """How long after the one before each frame begins."""
        return self.hop_length / self.sample_rate

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
    signal = np.empty((num_channels, num_samples), np.float32)
    num_written = 0
    for piece in _istft_pieces(spectrogram, spec):
        # The last frame's window reaches beyond the signal's end.
        wanted = piece[:, : num_samples - num_written]
        signal[:, num_written : num_written + wanted.shape[1]] = wanted
        num_written += wanted.shape[1]
    return signal


def _istft_pieces(spectrogram: ComplexArray, spec: StftSpec) -> Iterator[FloatArray]:
    stream = IstftStream(spec, len(spectrogram))
    for start in range(0, spectrogram.shape[2], BLOCK_FRAMES):
        yield stream.push(spectrogram[:, :, start : start + BLOCK_FRAMES].transpose(0, 2, 1))
    yield stream.finish()


class StftStream:
    """`stft` of a signal that is still coming: samples in, frames out as soon as all under their window is there."""

    def __init__(self, spec: StftSpec, num_channels: int) -> None:
        self._spec = spec
        # What lies under the next frame's window on; before the signal there is silence.
        self._samples = np.zeros((num_channels, spec.n_fft // 2), np.float32)
        self._num_samples = 0
        self._num_frames = 0

    def push(self, samples: FloatArray) -> ComplexArray:
        """Take the next samples (channel, sample), return the frames now known, complex64 (channel, frame, bin).

        Frame t is known once t * hop_length + n_fft / 2 samples were pushed; there may be none to return.
        """
        self._num_samples += samples.shape[1]
        self._samples = np.concatenate((self._samples, samples), axis=1)
        num_known = 1 + (self._samples.shape[1] - self._spec.n_fft) // self._spec.hop_length
        return self._take(max(0, num_known))

    def finish(self) -> ComplexArray:
        """Return the frames (channel, frame, bin) still owed, under whose windows silence follows the signal."""
        count = self._spec.num_frames(self._num_samples) - self._num_frames
        missing = (count - 1) * self._spec.hop_length + self._spec.n_fft - self._samples.shape[1]
        self._samples = np.pad(self._samples, ((0, 0), (0, missing)))
        return self._take(count)

    def _take(self, count: int) -> ComplexArray:
        """Return the next `count` frames, one or more samples of each being there."""
        if count == 0:
            return np.zeros((len(self._samples), 0, self._spec.num_bins), np.complex64)
        hop = self._spec.hop_length
        frames = transform_segment(self._samples[:, : (count - 1) * hop + self._spec.n_fft], self._spec)
        self._samples = self._samples[:, count * hop :]
        self._num_frames += count
        return frames


class IstftStream:
    """The inverse of a spectrogram that is still coming: frames in, samples out as soon as no frame reaches to them."""

    def __init__(self, spec: StftSpec, num_channels: int) -> None:
        self._spec = spec
        self._overlap_add = OverlapAdd(hann_window(spec.n_fft), spec.hop_length, num_channels)
        # Frame 0 begins half a window before the signal.
        self._num_before = spec.n_fft // 2

    def push(self, spectrogram: ComplexArray) -> FloatArray:
        """Take the next frames (channel, frame, bin), return the samples now known, float32 (channel, sample).

        With frame t come the samples before (t + 1) * hop_length - n_fft / 2.
        """
        return self._within(self._overlap_add.push(scipy.fft.irfft(spectrogram, self._spec.n_fft)))

    def finish(self) -> FloatArray:
        """Return the samples up to the end of the last frame's window, which is beyond the signal's end: cut there."""
        return self._within(self._overlap_add.finish())

    def _within(self, samples: FloatArray) -> FloatArray:
        """Return samples without those that stand before the signal."""
        num_before = min(self._num_before, samples.shape[1])
        self._num_before -= num_before
        return samples[:, num_before:]
