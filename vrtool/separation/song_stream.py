"""A song on its way through: blocks of its samples in, those of both stems out, in memory that does not grow.

Everything that separates goes this way, files, arrays and live sound, by a network's mask and by the ideal one alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from vrtool.audio.array_queue import ArrayQueue
from vrtool.audio.resampling import Resampler
from vrtool.audio.spectrogram import BLOCK_FRAMES, ComplexArray, IstftStream, StftSpec, StftStream
from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.errors import AudioError
from vrtool.model.masking import estimate_instrumental
from vrtool.separation.masks import Masks
from vrtool.separation.stems import Stems, check_channels, check_mixture

OnProgress = Callable[[float, float | None], None]
"""Told how many seconds of a song's stems are done, and of how many if that is known; what it raises ends the work."""

BLOCK_SAMPLES = 65536

# 120 dB above full scale: samples beyond are no sound but other data taken for floats.
LARGEST_SAMPLE = 1e6


class SongStream:
    """Splits a song of one or two channels at `sample_rate` Hz by `masks`, which it uses up.

    `spec` is the STFT that the masks are of. The network estimates the instrumental, yet it is the vocals that are
    turned back into audio and the instrumental that is what they leave. That way the stems sum to the mixture whatever
    resampling and inverse STFT round off, and what lies above the highest frequency of `spec`, or is lost in
    resampling, stays in the instrumental. Raises AudioError for other numbers of channels.
    """

    def __init__(self, masks: Masks, spec: StftSpec, *, sample_rate: int, num_channels: int) -> None:
        check_channels(num_channels)
        self.sample_rate = sample_rate
        self.num_channels = num_channels
        self._vocals = VocalsStream(masks, spec, num_channels)
        self._piece_samples = BLOCK_FRAMES * spec.hop_length
        self._resamplers = (
            None
            if sample_rate == spec.sample_rate
            else (
                Resampler(sample_rate, spec.sample_rate, num_channels),
                Resampler(spec.sample_rate, sample_rate, num_channels),
            )
        )
        self._mixture = ArrayQueue(np.zeros((num_channels, 0), np.float32))  # samples whose stems are not known yet
        self._num_read = 0

    @property
    def num_frames(self) -> int:
        """How many frames were split so far."""
        return self._vocals.num_frames

    def push(self, samples: FloatArray) -> Stems:
        """Take the song's next samples (channel, sample), any number, and return the stems known by now.

        Raises AudioError, and takes nothing, if there is a sample that is not finite or beyond all measure; JobError if
        a network's masks are broken.
        """
        assert len(samples) == self.num_channels
        num_sound = num_sound_samples(samples)
        if num_sound < samples.shape[1]:
            position = self._num_read + num_sound
            found = ", ".join(f"{value:.3g}" for value in samples[:, num_sound])
            raise AudioError(
                f"sample {position} ({position / self.sample_rate:.3f} s) is {found}, expected numbers with full scale "
                "at 1; what writes them is broken, or codes them in another format"
            )
        # Pieces bound the memory that one long push takes.
        step = self._piece_samples
        pieces = [self._push(samples[:, start : start + step]) for start in range(0, samples.shape[1], step)]
        return self._stems(pieces)

    def finish(self) -> Stems:
        """Return the stems still owed: as many samples in all as the song had, of which there was one or more."""
        if self._resamplers is None:
            return self._stems([self._vocals.finish()])
        to_network, from_network = self._resamplers
        last = self._vocals.push(to_network.finish())
        vocals = [from_network.push(last), from_network.push(self._vocals.finish()), from_network.finish()]
        # Rates there and back round the length up twice.
        return self._stems([np.concatenate(vocals, axis=1)[:, : len(self._mixture)]])

    def _push(self, samples: FloatArray) -> FloatArray:
        """Take the next samples and return those of the vocals now known."""
        self._num_read += samples.shape[1]
        # A copy: whoever gave them may use the memory again.
        self._mixture.append(samples.copy())
        if self._resamplers is None:
            return self._vocals.push(samples)
        to_network, from_network = self._resamplers
        return from_network.push(self._vocals.push(to_network.push(samples)))

    def _stems(self, pieces: list[FloatArray]) -> Stems:
        """Return both stems of the mixture's next samples, given the vocals."""
        empty = np.zeros((self.num_channels, 0), np.float32)
        vocals = np.ascontiguousarray(np.concatenate([empty, *pieces], axis=1))
        instrumental = self._mixture.take(vocals.shape[1]) - vocals
        return Stems(
            vocals=Waveform(samples=vocals, sample_rate=self.sample_rate),
            instrumental=Waveform(samples=instrumental, sample_rate=self.sample_rate),
        )


class VocalsStream:
    """A mixture at the rate of `spec` in, its vocals out, frame by frame as the masks become known."""

    def __init__(self, masks: Masks, spec: StftSpec, num_channels: int) -> None:
        self._masks = masks
        self._stft = StftStream(spec, num_channels)
        self._istft = IstftStream(spec, num_channels)
        self._waiting = ArrayQueue(np.zeros((num_channels, 0, spec.num_bins), np.complex64))  # for their masks
        self._num_read = 0
        self._num_written = 0
        self.num_frames = 0
        """How many frames were split so far."""

    def push(self, mixture: FloatArray) -> FloatArray:
        """Take the next samples of the mixture, return those of the vocals now known: float32 (channel, sample)."""
        self._num_read += mixture.shape[1]
        frames = self._stft.push(mixture)
        if frames.shape[1] == 0:
            return mixture[:, :0]
        return self._count(self._split(self._mask(frames)))

    def finish(self) -> FloatArray:
        """Return the vocals still owed: as many samples in all as the mixture had."""
        masks = (self._mask(self._stft.finish()), self._masks.finish())
        pieces = [self._split(mask) for mask in masks]
        assert len(self._waiting) == 0
        # The last frame's window reaches beyond the end.
        rest = np.concatenate([*pieces, self._istft.finish()], axis=1)
        return self._count(rest[:, : self._num_read - self._num_written])

    def _mask(self, frames: ComplexArray) -> FloatArray:
        self._waiting.append(frames)
        return self._masks.push(np.abs(frames))

    def _split(self, mask: FloatArray) -> FloatArray:
        """Return the vocals' samples known with this mask (channel, frame, bin) of the frames that waited for it."""
        self.num_frames += mask.shape[1]
        vocals = [np.zeros((len(mask), 0), np.float32)]
        # The masks of a chunk come at once. What is made of so many frames would take as much memory as all else of a
        # song, and leave the processor's cache.
        for start in range(0, mask.shape[1], BLOCK_FRAMES):
            part = mask[:, start : start + BLOCK_FRAMES]
            frames = self._waiting.take(part.shape[1])
            vocals.append(self._istft.push(frames - estimate_instrumental(part, frames)))
        return np.concatenate(vocals, axis=1)

    def _count(self, vocals: FloatArray) -> FloatArray:
        self._num_written += vocals.shape[1]
        return vocals


def num_sound_samples(samples: FloatArray) -> int:
    """Return how many samples (channel, sample) there are before one that is not finite or beyond all measure."""
    # Written so that NaN, which compares to nothing, is not within.
    broken = np.flatnonzero(~(np.abs(samples) <= LARGEST_SAMPLE).all(axis=0))
    return int(broken[0]) if broken.size else samples.shape[1]


def split_mixture(mixture: Waveform, spec: StftSpec, masks: Masks, *, on_progress: OnProgress | None = None) -> Stems:
    """Return the stems that `masks` makes of a whole mixture: any sample rate, one or two channels.

    Raises AudioError for more than two channels, for no samples and for samples that are not finite.
    """
    check_mixture(mixture)
    stream = SongStream(masks, spec, sample_rate=mixture.sample_rate, num_channels=mixture.num_channels)
    vocals = np.empty(mixture.samples.shape, np.float32)
    num_done = 0
    for stems in split_blocks(_blocks(mixture.samples), stream):
        count = stems.vocals.num_samples
        vocals[:, num_done : num_done + count] = stems.vocals.samples
        num_done += count
        if on_progress is not None:
            on_progress(num_done / mixture.sample_rate, mixture.duration_seconds)
    return Stems(
        vocals=Waveform(samples=vocals, sample_rate=mixture.sample_rate),
        instrumental=Waveform(samples=mixture.samples - vocals, sample_rate=mixture.sample_rate),
    )


def split_blocks(blocks: Iterable[FloatArray], stream: SongStream) -> Iterator[Stems]:
    """Yield the stems of a song's blocks (channel, sample) as they become known, every sample once.

    Raises AudioError if there is not one sample, and as `SongStream.push` does.
    """
    num_read = 0
    for block in blocks:
        num_read += block.shape[1]
        stems = stream.push(block)
        if stems.vocals.num_samples:
            yield stems
    if num_read == 0:
        raise AudioError("expected at least one sample, found none")
    yield stream.finish()


def _blocks(samples: FloatArray) -> Iterator[FloatArray]:
    for start in range(0, samples.shape[1], BLOCK_SAMPLES):
        yield samples[:, start : start + BLOCK_SAMPLES]
