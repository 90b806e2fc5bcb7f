"""Songs separated while they come: samples in, the samples of one stem out, a latency later."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

import numpy as np

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.errors import AudioError, InputError
from vrtool.model.device import pick_device
from vrtool.model.network import Network
from vrtool.separation.live_latency import FrameTimes, stream_latency
from vrtool.separation.masks import MaskNetwork, OnePassMasks
from vrtool.separation.scale import LoudestOfLate
from vrtool.separation.song_stream import SongStream, num_sound_samples
from vrtool.separation.stems import MAX_CHANNELS, Stems
from vrtool.separation.trained import load_trained

Stem = Literal["vocals", "instrumental"]

# What sound cards and files have; beyond, resampling filters become as long as songs.
SAMPLE_RATES = range(4000, 768_001)

WARM_UP_FRAMES = 4


class LiveSeparator:
    """One song in one pass, in constant memory however long it is.

    `stft` is the spectrogram that `network` was trained on. The stream has `sample_rate` Hz (default: the network's)
    and one or two channels, whatever the network has. Stems are aligned with the mixture: what `latency` delays is only
    when a sample appears. They are those of `Separator`.

    Raises InputError if the network looks at all frames at once, for another number of channels, for a rate that is
    none of audio and for a missing device.
    """

    def __init__(
        self,
        network: Network,
        stft: StftSpec,
        *,
        stem: Stem = "instrumental",
        sample_rate: int | None = None,
        num_channels: int = 2,
        device: str = "auto",
    ) -> None:
        self.stft = stft
        self.stem = stem
        self.sample_rate = stft.sample_rate if sample_rate is None else sample_rate
        self.num_channels = num_channels
        self.device = pick_device(device)
        if not 1 <= num_channels <= MAX_CHANNELS:
            raise InputError(f"expected a stream of 1 or 2 channels, found {num_channels}; mix it down first")
        if self.sample_rate not in SAMPLE_RATES:
            raise InputError(f"expected a sample rate of 4000 to 768000 Hz, found {self.sample_rate}; 44100 is usual")
        self._network = MaskNetwork(network, network.config.num_channels, self.device.device, "float32")
        self._song = self._open_song()
        # Only now is it known that the network can be streamed.
        assert network.look_ahead_frames is not None
        self.latency = stream_latency(stft, network.look_ahead_frames, self.sample_rate)
        self.times = FrameTimes()
        self._warm_up()

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        stem: Stem = "instrumental",
        sample_rate: int | None = None,
        num_channels: int = 2,
        device: str = "auto",
    ) -> Self:
        """Return the separator of a checkpoint: a file, or the folder of a run, whose best one is taken.

        Raises CheckpointError if there is no checkpoint or it is damaged, InputError as the class does.
        """
        network, stft = load_trained(path, device)
        return cls(network, stft, stem=stem, sample_rate=sample_rate, num_channels=num_channels, device=device)

    def push(self, samples: FloatArray) -> FloatArray:
        """Take the next samples of the mixture, any number, return those of the stem that are known by now.

        Both float32 (channel, sample), full scale ±1. Raises AudioError, and takes nothing, if there is a sample that
        is not finite or beyond all measure; JobError if the network's masks are broken.
        """
        with self._timed():
            return self._stem_of(self._song.push(samples))

    def finish(self) -> FloatArray:
        """Return the samples of the stem still owed, float32 (channel, sample); there are as many as were pushed."""
        with self._timed():
            return self._stem_of(self._song.finish())

    def _open_song(self) -> SongStream:
        masks = OnePassMasks(self._network, LoudestOfLate(self.stft), self.num_channels)
        return SongStream(masks, self.stft, sample_rate=self.sample_rate, num_channels=self.num_channels)

    def _stem_of(self, stems: Stems) -> FloatArray:
        return (stems.vocals if self.stem == "vocals" else stems.instrumental).samples

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began, num_frames = time.perf_counter(), self._song.num_frames
        try:
            yield
        finally:
            self.times.add(time.perf_counter() - began, self._song.num_frames - num_frames)

    def _warm_up(self) -> None:
        """Run a few silent frames through a song of their own: a device's first call takes many times longer."""
        song = self._open_song()
        frame = np.zeros(
            (self.num_channels, self.stft.hop_length * self.sample_rate // self.stft.sample_rate), np.float32
        )
        for _ in range(WARM_UP_FRAMES):
            song.push(frame)
        song.finish()


def separate_stream(separator: LiveSeparator, blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
    """Yield a stem's samples (channel, sample) block for block as the mixture's come, and in the end those still owed.

    Where the mixture ends in an AudioError or Ctrl-C, or with a broken sample, the stem of what came before is finished
    first; then the error passes.
    """
    sound = _sound_blocks(separator, blocks)
    end: AudioError | KeyboardInterrupt | None = None
    while end is None:
        # Of the errors, only those of the source leave the separator in a state to go on from.
        try:
            samples = next(sound, None)
        except (AudioError, KeyboardInterrupt) as error:
            end = error
            continue
        if samples is None:
            break
        yield separator.push(samples)
    yield separator.finish()
    if end is not None:
        raise end


def _sound_blocks(separator: LiveSeparator, blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
    """Yield blocks that are pushed at once, up to a broken sample, which the separator then refuses by its position."""
    for samples in blocks:
        num_sound = num_sound_samples(samples)
        yield samples[:, :num_sound]
        separator.push(samples[:, num_sound:])
