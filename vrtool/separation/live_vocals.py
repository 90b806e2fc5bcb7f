"""A mixture at the network's rate in, its vocals out, frame by frame as the masks become known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vrtool.audio.spectrogram import ComplexArray, IstftStream, StftSpec, StftStream
from vrtool.audio.waveform import FloatArray
from vrtool.model.masking import estimate_instrumental
from vrtool.model.network import Network
from vrtool.separation.channels import song_mask, to_network_channels

FLOOR_DB = -12.0
"""The least that 1.0 stands for, as the level of a sine in dB of full scale.

Networks want magnitudes as shares of the song's largest, which a stream does not know before its end: it takes the
largest so far. Of what is there before the first loud sound, be it a fade-in or the hiss of a silent input, that would
make full scale. The loudest bins of ten mixtures, mastered and amateur ones, lay at -12.5 to -3.8 dB, so that from this
floor on nearly every song rises to its own scale, and none begins far from it. Quieter streams are heard as the quiet
parts of a song: turn them up first.
"""


class LiveScale:
    """What 1.0 stands for while a song goes on: the largest magnitude so far, or the floor. It never falls."""

    def __init__(self, stft: StftSpec) -> None:
        # A full-scale sine has a magnitude of n_fft / 4.
        self._largest = np.float32(stft.n_fft / 4 * 10 ** (FLOOR_DB / 20))

    def apply(self, frames: ComplexArray) -> FloatArray:
        """Return the magnitudes in [0, 1] of the next frames, both (channel, frame, bin).

        A frame's scale depends on itself and those before it, however the stream is cut into pieces.
        """
        magnitude: FloatArray = np.abs(frames)
        peaks = magnitude.max(axis=(0, 2))
        scales = np.maximum(np.maximum.accumulate(peaks), self._largest)
        self._largest = scales[-1]
        magnitude /= scales[:, None]
        return magnitude


class LiveVocals:
    """Splits a stream at the rate of `stft` by the masks of `network`, which is in evaluation mode and on `device`."""

    def __init__(self, network: Network, stft: StftSpec, num_channels: int, device: torch.device) -> None:
        self._network_channels = network.config.num_channels
        self._num_channels = num_channels
        self._device = device
        self._masks = network.open_stream()
        self._stft = StftStream(stft, num_channels)
        self._istft = IstftStream(stft, num_channels)
        self._scale = LiveScale(stft)
        self._waiting = np.zeros((num_channels, 0, stft.num_bins), np.complex64)  # frames whose masks are not known yet
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
        return self._count(self._istft.push(self._mask(frames)))

    def finish(self) -> FloatArray:
        """Return the vocals still owed: as many samples in all as the mixture had."""
        frames = np.concatenate((self._mask(self._stft.finish()), self._split(self._finished_masks())), axis=1)
        assert self._waiting.shape[1] == 0
        rest = np.concatenate((self._istft.push(frames), self._istft.finish()), axis=1)
        return self._count(rest[:, : self._num_read - self._num_written])

    def _count(self, vocals: FloatArray) -> FloatArray:
        self._num_written += vocals.shape[1]
        return vocals

    @torch.inference_mode()
    def _mask(self, frames: ComplexArray) -> ComplexArray:
        """Take the mixture's next frames (channel, frame, bin), return the vocals' of all whose masks are now known."""
        self._waiting = np.concatenate((self._waiting, frames), axis=1)
        magnitude = torch.from_numpy(self._scale.apply(frames)).to(self._device).transpose(1, 2).unsqueeze(0)
        return self._split(self._masks.push(to_network_channels(magnitude, self._network_channels)))

    @torch.inference_mode()
    def _finished_masks(self) -> Tensor:
        return self._masks.finish()

    def _split(self, mask: Tensor) -> ComplexArray:
        """Return the vocals' frames (channel, frame, bin) of the frames that have waited for this mask (B, C, F, m)."""
        share = song_mask(mask, self._num_channels)[0].transpose(0, 2, 1)
        count = share.shape[1]
        self.num_frames += count
        known, self._waiting = self._waiting[:, :count], self._waiting[:, count:]
        vocals: ComplexArray = known - estimate_instrumental(share, known)
        return vocals
