"""Waveforms in, stems out: a trained network applied to songs of any rate and length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch

from vrtool.audio.spectrogram import BLOCK_FRAMES, ComplexArray, StftSpec
from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.errors import InputError, JobError
from vrtool.model.checkpoint import checkpoint_model, find_checkpoint, load_checkpoint
from vrtool.model.device import pick_device
from vrtool.separation.chunking import Chunk, MaskPiece, blend_chunks, check_chunking, plan_chunks
from vrtool.separation.stems import Stems, split_mixture

OnProgress = Callable[[int, int], None]
"""Told how many chunks of a song are done, and of how many; what it raises ends the separation."""

DEFAULT_CHUNK_FRAMES = 1024
"""About 24 s at the usual STFT: what a network whose training is not known gets."""

DEFAULT_OVERLAP = 0.5
"""Every frame but a song's outermost is seen twice, once within the middle half of a chunk."""


class Separator:
    """A network ready to separate songs, one after another or from several threads.

    `stft` is the spectrogram the network was trained on; `num_channels` how many audio channels it takes. Chunks have
    `chunk_frames` frames (default: what the network requires, else 1024), overlap by the share `overlap` and pass the
    network `batch_size` at a time. `device` is a name for `pick_device`. Raises InputError if these do not fit.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        stft: StftSpec,
        *,
        num_channels: int = 2,
        device: str = "auto",
        chunk_frames: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 1,
    ) -> None:
        self.stft = stft
        self.num_channels = num_channels
        self.device = pick_device(device)
        self.requires_frames: int | None = getattr(network, "requires_frames", None)
        self.chunk_frames = _chosen_chunk_frames(chunk_frames, self.requires_frames)
        self.overlap = overlap
        self.batch_size = batch_size
        check_chunking(self.chunk_frames, overlap)
        if batch_size < 1:
            raise InputError(f"a batch needs 1 chunk or more, found {batch_size}")
        self._network = network.to(self.device.device).eval()

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        chunk_frames: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 1,
    ) -> Self:
        """Return the separator of a checkpoint: a file, or the folder of a run, whose best one is taken.

        `chunk_frames` defaults to the length of the crops the network was made for. Raises CheckpointError if there is
        no checkpoint or it is damaged, InputError as the class does.
        """
        pick_device(device)  # a missing GPU is worth saying before a large file is read
        checkpoint = load_checkpoint(find_checkpoint(Path(path)))
        return cls(
            checkpoint_model(checkpoint),
            checkpoint.stft,
            num_channels=checkpoint.model.num_channels,
            device=device,
            # Attention has learned distances within a crop; what it makes of longer ones is anybody's guess.
            chunk_frames=chunk_frames,
            overlap=overlap,
            batch_size=batch_size,
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
        chunks = plan_chunks(magnitude.shape[2], self.chunk_frames, self.overlap)
        pieces = self._mask_pieces(chunks, lambda chunk: magnitude[:, :, chunk.start_frame : chunk.end_frame])
        return np.concatenate([piece.mask for piece in pieces], axis=2)

    def _spectrogram_masks(self, spectrogram: ComplexArray, *, on_progress: OnProgress | None) -> Iterator[MaskPiece]:
        """Yield the mask of a spectrogram (channel, bin, frame), scaled by the song's largest magnitude."""
        # A silent song has nothing to scale.
        scale = largest_magnitude(spectrogram) or np.float32(1)

        def read_chunk(chunk: Chunk) -> FloatArray:
            magnitude: FloatArray = np.abs(spectrogram[:, :, chunk.start_frame : chunk.end_frame])
            magnitude /= scale
            return magnitude

        chunks = plan_chunks(spectrogram.shape[2], self.chunk_frames, self.overlap)
        return self._mask_pieces(chunks, read_chunk, on_progress)

    def _mask_pieces(
        self,
        chunks: list[Chunk],
        read_chunk: Callable[[Chunk], FloatArray],
        on_progress: OnProgress | None = None,
    ) -> Iterator[MaskPiece]:
        """Yield the blended mask of the chunks whose magnitudes `read_chunk` gives, each read once and in order."""

        def chunk_masks() -> Iterator[tuple[Chunk, FloatArray]]:
            for start in range(0, len(chunks), self.batch_size):
                batch = chunks[start : start + self.batch_size]
                masks = self._run_network(np.stack([read_chunk(chunk) for chunk in batch]))
                if on_progress is not None:
                    on_progress(start + len(batch), len(chunks))
                yield from zip(batch, masks, strict=True)

        return blend_chunks(chunk_masks())

    @torch.inference_mode()
    def _run_network(self, magnitudes: FloatArray) -> FloatArray:
        """Return the masks of a batch of chunks: both (chunk, channel, bin, frame)."""
        x = torch.from_numpy(magnitudes).to(self.device.device)
        num_chunks, num_channels, _, num_frames = x.shape
        if self.requires_frames is not None:
            # Only a song shorter than a chunk falls short of what such a network takes: silence follows it.
            x = torch.nn.functional.pad(x, (0, self.requires_frames - num_frames))
        if num_channels < self.num_channels:
            # A mono song is a stereo one whose sides are equal; what the network says of the sides is averaged.
            mask = self._network(x.expand(-1, self.num_channels, -1, -1)).mean(dim=1, keepdim=True)
        elif num_channels > self.num_channels:
            # A mono network hears the sides one by one.
            mask = self._network(x.flatten(0, 1).unsqueeze(1)).view(num_chunks, num_channels, *x.shape[2:])
        else:
            mask = self._network(x)
        result: FloatArray = mask[..., :num_frames].float().cpu().numpy()
        if not np.isfinite(result).all():
            raise JobError(
                "the network gives masks that are not numbers; its weights are damaged, use another checkpoint"
            )
        return result


def largest_magnitude(spectrogram: ComplexArray) -> np.float32:
    """Return the largest magnitude of a spectrogram (channel, bin, frame) without an array of all magnitudes."""
    num_frames = spectrogram.shape[2]
    blocks = (spectrogram[:, :, start : start + BLOCK_FRAMES] for start in range(0, num_frames, BLOCK_FRAMES))
    return max(np.abs(block).max() for block in blocks)


def _chosen_chunk_frames(chosen: int | None, required: int | None) -> int:
    if required is None:
        return DEFAULT_CHUNK_FRAMES if chosen is None else chosen
    if chosen not in (None, required):
        raise InputError(f"this network takes chunks of exactly {required} frames, found {chosen}; leave it out")
    return required
