"""A network's masks for a song that is still coming: in overlapping chunks, or in one pass where it streams."""

from __future__ import annotations

import weakref
from collections import deque
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vrtool.audio.array_queue import ArrayQueue
from vrtool.audio.waveform import FloatArray
from vrtool.model.acceleration import Precision, autocast
from vrtool.model.network import MaskStream
from vrtool.separation.channels import song_mask, to_network_channels
from vrtool.separation.chunking import Chunk, ChunkBlender, Chunker
from vrtool.separation.passes import PassPool
from vrtool.separation.scale import Scale


class Masks(Protocol):
    """Magnitudes in as they come, the instrumental's share out, in order and one frame for each."""

    def push(self, magnitude: FloatArray) -> FloatArray:
        """Take the next frames' magnitudes (channel, frame, bin), return the mask of the next frames now known, if any.

        Of the same axes, in [0, 1].
        """
        ...

    def finish(self) -> FloatArray:
        """Return the mask (channel, frame, bin) of the frames still owed, of which one or more was pushed."""
        ...


class MaskNetwork:
    """A network on its device as it meets songs of one or two channels, whatever it takes itself.

    Any module will do that gives masks for magnitudes (batch, channel, bin, frame); one without `look_ahead_frames`
    looks at all frames at once. It keeps nothing of a song: several threads may use it.
    """

    def __init__(self, network: torch.nn.Module, num_channels: int, device: torch.device, precision: Precision) -> None:
        self._network: Any = network.to(device).eval()
        self._num_channels = num_channels
        self._device = device
        self._precision = precision
        self.requires_frames: int | None = getattr(network, "requires_frames", None)
        self.can_stream = getattr(network, "look_ahead_frames", None) is not None

    def open_stream(self) -> MaskStream:
        """Return the start of a song in one pass; InputError from a network that looks at all frames at once."""
        stream: MaskStream = self._network.open_stream()
        return stream

    @torch.inference_mode()
    def masks(self, magnitudes: FloatArray) -> FloatArray:
        """Return the masks of a batch of chunks: both (chunk, channel, frame, bin), magnitudes in [0, 1]."""
        x = self._on_device(magnitudes)
        num_channels, num_frames = x.shape[1], x.shape[3]
        if self.requires_frames is not None:
            # Only a song shorter than a chunk falls short of what such a network takes: silence follows it.
            x = torch.nn.functional.pad(x, (0, self.requires_frames - num_frames))
        with autocast(self._device, self._precision):
            mask: Tensor = self._network(to_network_channels(x, self._num_channels))
        time_major: FloatArray = song_mask(mask[..., :num_frames], num_channels).transpose(0, 1, 3, 2)
        return time_major

    @torch.inference_mode()
    def stream_masks(self, stream: MaskStream, magnitude: FloatArray | None, num_channels: int) -> FloatArray:
        """Push frames (channel, frame, bin) into a stream, or finish it for None; return the masks now known."""
        with autocast(self._device, self._precision):
            if magnitude is None:
                mask = stream.finish()
            else:
                mask = stream.push(to_network_channels(self._on_device(magnitude[None]), self._num_channels))
        time_major: FloatArray = song_mask(mask, num_channels)[0].transpose(0, 2, 1)
        return time_major

    def _on_device(self, magnitudes: FloatArray) -> Tensor:
        """Return magnitudes (batch, channel, frame, bin) as the network takes them, (batch, channel, bin, frame)."""
        return torch.from_numpy(np.ascontiguousarray(magnitudes.transpose(0, 1, 3, 2))).to(self._device)


class ChunkedMasks:
    """Masks from a song's overlapping chunks, `batch_size` of which pass the network together.

    A chunk is heard at one scale, that of its last frame. As many passes are under way as `pool` wants of a song: what
    a push returns depends on how many chunks there were, never on how fast they were computed. It raises what a pass
    raised. Raises InputError as `Chunker` does.
    """

    def __init__(
        self,
        network: MaskNetwork,
        scale: Scale,
        pool: PassPool,
        *,
        chunk_frames: int,
        overlap: float,
        batch_size: int,
    ) -> None:
        self._network = network
        self._scale = scale
        self._pool = pool
        self._chunker = Chunker(chunk_frames, overlap)
        self._blender = ChunkBlender()
        self._batch_size = batch_size
        self._batch: list[tuple[Chunk, FloatArray]] = []  # chunks and their scaled magnitudes
        self._under_way: deque[tuple[list[Chunk], Future[FloatArray]]] = deque()  # batches and their masks to come
        weakref.finalize(self, _cancel, self._under_way)  # a song that is given up
        self._waiting: ArrayQueue[np.float32] | None = None  # magnitudes from frame `_first_frame` on
        self._scales = np.zeros(0, np.float32)  # of the same frames
        self._first_frame = 0

    def push(self, magnitude: FloatArray) -> FloatArray:
        """Take the next frames; see Masks."""
        if self._waiting is None:
            self._waiting = ArrayQueue(magnitude[:, :0])
        self._waiting.append(magnitude)
        self._scales = np.concatenate((self._scales, self._scale.hear(magnitude)))
        known = [magnitude[:, :0]]
        for chunk in self._chunker.push(magnitude.shape[1]):
            self._add(chunk)
            if len(self._batch) == self._batch_size:
                self._start()
                known += self._known(num_left=self._pool.num_ahead)
        done = min(self._chunker.first_needed_frame, self._first_frame + len(self._waiting)) - self._first_frame
        self._waiting.drop(done)
        self._scales = self._scales[done:]
        self._first_frame += done
        return np.concatenate(known, axis=1)

    def finish(self) -> FloatArray:
        """Return the masks still owed; see Masks."""
        for chunk in self._chunker.finish():
            self._add(chunk)
        if self._batch:
            self._start()
        return np.concatenate([*self._known(num_left=0), self._blender.finish()], axis=1)

    def _add(self, chunk: Chunk) -> None:
        assert self._waiting is not None
        start, end = chunk.start_frame - self._first_frame, chunk.end_frame - self._first_frame
        magnitude = self._waiting.first(end)[:, start:]
        self._batch.append((chunk, magnitude / self._scales[end - 1]))

    def _start(self) -> None:
        """Let the chunks that wait pass the network."""
        batch, self._batch = self._batch, []
        magnitudes = np.stack([magnitude for _, magnitude in batch])
        self._under_way.append(([chunk for chunk, _ in batch], self._pool.submit(self._network.masks, magnitudes)))

    def _known(self, *, num_left: int) -> list[FloatArray]:
        """Return what passes make known when all but the last `num_left` of those under way are done."""
        known = []
        while len(self._under_way) > num_left:
            chunks, masks = self._under_way.popleft()
            known += [self._blender.push(chunk, mask) for chunk, mask in zip(chunks, masks.result(), strict=True)]
        return known


def _cancel(under_way: deque[tuple[list[Chunk], Future[FloatArray]]]) -> None:
    for _, masks in under_way:
        masks.cancel()


class OnePassMasks:
    """Masks from one pass over a song of `num_channels`, without borders; every frame is heard at its own scale."""

    def __init__(self, network: MaskNetwork, scale: Scale, num_channels: int) -> None:
        self._network = network
        self._scale = scale
        self._num_channels = num_channels
        self._stream = network.open_stream()

    def push(self, magnitude: FloatArray) -> FloatArray:
        """Take the next frames; see Masks."""
        heard = magnitude / self._scale.hear(magnitude)[:, None]
        return self._network.stream_masks(self._stream, heard, self._num_channels)

    def finish(self) -> FloatArray:
        """Return the masks still owed; see Masks."""
        return self._network.stream_masks(self._stream, None, self._num_channels)
