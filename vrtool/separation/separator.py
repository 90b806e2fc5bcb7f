"""Waveforms in, stems out: a trained network applied to songs of any rate and length."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch

from vrtool.audio.spectrogram import BLOCK_FRAMES, ComplexArray, StftSpec
from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.errors import InputError
from vrtool.model.acceleration import Precision
from vrtool.model.device import pick_device
from vrtool.model.network import Network
from vrtool.separation.chunking import MaskPiece, check_chunking, plan_chunks
from vrtool.separation.mask_pieces import OnProgress, ReadFrames, SongMasker
from vrtool.separation.stems import Stems, split_mixture
from vrtool.separation.trained import load_trained

DEFAULT_CHUNK_FRAMES = 1024
"""About 24 s at the usual STFT: what a network whose training is not known gets."""

DEFAULT_OVERLAP = 0.5
"""Every frame but a song's outermost is seen twice, once within the middle half of a chunk."""


class Separator:
    """A network ready to separate songs, one after another or from several threads.

    `stft` is the spectrogram the network was trained on; `num_channels` how many audio channels it takes, 1 or 2 (a
    Network knows it; of any other module, 2 is the default). Chunks have `chunk_frames` frames (default: what the
    network requires, else 1024), overlap by the share `overlap` and pass the network `batch_size` at a time; a network
    that can be streamed takes a song in one pass instead. `device` is a name for `pick_device`; `precision` bfloat16 is
    faster on hardware that has it. Raises InputError if these do not fit.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        stft: StftSpec,
        *,
        num_channels: int | None = None,
        device: str = "auto",
        chunk_frames: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 1,
        precision: Precision = "float32",
    ) -> None:
        self.stft = stft
        self.num_channels = _fitting_channels(network, stft, num_channels)
        self.device = pick_device(device)
        self._masker = SongMasker(network, self.num_channels, self.device.device, precision)
        self.chunk_frames = _chosen_chunk_frames(chunk_frames, self._masker.requires_frames)
        self.overlap = overlap
        self.batch_size = batch_size
        check_chunking(self.chunk_frames, overlap)
        if batch_size < 1:
            raise InputError(f"a batch needs 1 chunk or more, found {batch_size}")

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        chunk_frames: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 1,
        precision: Precision = "float32",
    ) -> Self:
        """Return the separator of a checkpoint: a file, or the folder of a run, whose best one is taken.

        Raises CheckpointError if there is no checkpoint or it is damaged, InputError as the class does.
        """
        network, stft = load_trained(path, device)
        return cls(
            network,
            stft,
            device=device,
            chunk_frames=chunk_frames,
            overlap=overlap,
            batch_size=batch_size,
            precision=precision,
        )

    def separate(self, mixture: Waveform, *, on_progress: OnProgress | None = None) -> Stems:
        """Return the stems of `mixture`: any sample rate, one or two channels, from one sample up.

        They have its sample rate, channels and length, and sum to it. Raises AudioError for more channels, no samples
        or samples that are not finite.
        """
        return split_mixture(mixture, self.stft, partial(self._spectrogram_masks, on_progress=on_progress))

    def mask(self, magnitude: FloatArray) -> FloatArray:
        """Return the instrumental's share, float32 in [0, 1], for a song's magnitudes in [0, 1].

        Both of shape (channel, bin, frame), one or two channels.
        """
        pieces = self._mask_pieces(magnitude.shape[2], lambda start, end: magnitude[:, :, start:end])
        return np.concatenate([piece.mask for piece in pieces], axis=2)

    def _spectrogram_masks(self, spectrogram: ComplexArray, *, on_progress: OnProgress | None) -> Iterator[MaskPiece]:
        """Yield the mask of a spectrogram (channel, bin, frame), scaled by the song's largest magnitude."""
        # A silent song has nothing to scale.
        scale = largest_magnitude(spectrogram) or np.float32(1)

        def read_frames(start: int, end: int) -> FloatArray:
            magnitude: FloatArray = np.abs(spectrogram[:, :, start:end])
            magnitude /= scale
            return magnitude

        return self._mask_pieces(spectrogram.shape[2], read_frames, on_progress)

    def _mask_pieces(
        self, num_frames: int, read_frames: ReadFrames, on_progress: OnProgress | None = None
    ) -> Iterator[MaskPiece]:
        """Yield the mask of a song, whose magnitudes `read_frames` gives, each read in order and before its mask."""
        if self._masker.can_stream:
            return self._masker.streamed(num_frames, read_frames, on_progress)
        chunks = plan_chunks(num_frames, self.chunk_frames, self.overlap)
        return self._masker.chunked(chunks, self.batch_size, read_frames, on_progress)


def largest_magnitude(spectrogram: ComplexArray) -> np.float32:
    """Return the largest magnitude of a spectrogram (channel, bin, frame) without an array of all magnitudes."""
    num_frames = spectrogram.shape[2]
    blocks = (spectrogram[:, :, start : start + BLOCK_FRAMES] for start in range(0, num_frames, BLOCK_FRAMES))
    return max(np.abs(block).max() for block in blocks)


def _fitting_channels(network: torch.nn.Module, stft: StftSpec, chosen: int | None) -> int:
    """Return how many audio channels the network takes; InputError unless that, and its bins, can be served."""
    if isinstance(network, Network):
        config = network.config
        if config.n_fft != stft.n_fft:
            raise InputError(f"this network takes spectrograms of n_fft {config.n_fft}, found {stft.n_fft}")
        if chosen not in (None, config.num_channels):
            raise InputError(f"this network takes {config.num_channels} channels, found {chosen}; leave it out")
        chosen = config.num_channels
    num_channels = 2 if chosen is None else chosen
    if num_channels not in (1, 2):
        raise InputError(f"songs have 1 or 2 channels, found a network that takes {num_channels}")
    return num_channels


def _chosen_chunk_frames(chosen: int | None, required: int | None) -> int:
    if required is None:
        return DEFAULT_CHUNK_FRAMES if chosen is None else chosen
    if chosen not in (None, required):
        raise InputError(f"this network takes chunks of exactly {required} frames, found {chosen}; leave it out")
    return required
