"""The mask of a whole song from a network, piece by piece: in overlapping chunks, or in one pass where it streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vrtool.audio.waveform import FloatArray
from vrtool.model.acceleration import Precision, autocast
from vrtool.model.network import MaskStream
from vrtool.separation.channels import song_mask, to_network_channels
from vrtool.separation.chunking import Chunk, MaskPiece, blend_chunks

ReadFrames = Callable[[int, int], FloatArray]
"""Gives a song's magnitudes (channel, bin, frame) in [0, 1] from one frame up to but not including another."""

OnProgress = Callable[[int, int], None]
"""Told how much of a song is done, and of how much; what it raises ends the separation."""

STREAMED_FRAMES = 128
"""Frames that a streaming network is given at once: what of them does not wait for its output is done together."""


class SongMasker:
    """A network on its device as it meets songs of one or two channels, whatever it takes itself.

    Any module will do that gives masks for magnitudes (batch, channel, bin, frame); one without `look_ahead_frames`
    looks at all frames at once.
    """

    def __init__(self, network: torch.nn.Module, num_channels: int, device: torch.device, precision: Precision) -> None:
        self._network: Any = network.to(device).eval()
        self._num_channels = num_channels
        self._device = device
        self._precision = precision
        self.requires_frames: int | None = getattr(network, "requires_frames", None)
        self.can_stream = getattr(network, "look_ahead_frames", None) is not None

    def chunked(
        self, chunks: list[Chunk], batch_size: int, read_frames: ReadFrames, on_progress: OnProgress | None
    ) -> Iterator[MaskPiece]:
        """Yield a song's mask, blended from those of its chunks, `batch_size` of which pass the network together."""

        def chunk_masks() -> Iterator[tuple[Chunk, FloatArray]]:
            for start in range(0, len(chunks), batch_size):
                batch = chunks[start : start + batch_size]
                magnitudes = [read_frames(chunk.start_frame, chunk.end_frame) for chunk in batch]
                masks = self._chunk_masks(np.stack(magnitudes))
                if on_progress is not None:
                    on_progress(start + len(batch), len(chunks))
                yield from zip(batch, masks, strict=True)

        return blend_chunks(chunk_masks())

    def streamed(self, num_frames: int, read_frames: ReadFrames, on_progress: OnProgress | None) -> Iterator[MaskPiece]:
        """Yield a song's mask from one pass over its `num_frames` frames, without borders."""
        stream: MaskStream = self._network.open_stream()
        num_known = 0
        for start in range(0, num_frames, STREAMED_FRAMES):
            end = min(start + STREAMED_FRAMES, num_frames)
            magnitude = read_frames(start, end)
            with torch.inference_mode(), autocast(self._device, self._precision):
                x = torch.from_numpy(magnitude[None]).to(self._device)
                masks = [stream.push(to_network_channels(x, self._num_channels))]
                if end == num_frames:
                    masks.append(stream.finish())
            mask = song_mask(torch.cat(masks, dim=3), magnitude.shape[0])[0]
            if on_progress is not None:
                on_progress(end, num_frames)
            yield MaskPiece(start_frame=num_known, mask=mask)
            num_known += mask.shape[2]

    @torch.inference_mode()
    def _chunk_masks(self, magnitudes: FloatArray) -> FloatArray:
        """Return the masks of a batch of chunks: both (chunk, channel, bin, frame)."""
        x = torch.from_numpy(magnitudes).to(self._device)
        num_channels, num_frames = x.shape[1], x.shape[3]
        if self.requires_frames is not None:
            # Only a song shorter than a chunk falls short of what such a network takes: silence follows it.
            x = torch.nn.functional.pad(x, (0, self.requires_frames - num_frames))
        with autocast(self._device, self._precision):
            mask: Tensor = self._network(to_network_channels(x, self._num_channels))
        return song_mask(mask[..., :num_frames], num_channels)
