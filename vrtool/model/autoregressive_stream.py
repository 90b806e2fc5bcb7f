"""The autoregressive frame transformer on its way through a song, frame by frame on its own output."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vrtool.model.masking import estimate_instrumental
from vrtool.model.network import MaskStream
from vrtool.model.past import KeptPast, RollingMemory

if TYPE_CHECKING:
    from vrtool.model.autoregressive import AutoregressiveFrameTransformer


class _Frame(NamedTuple):
    """A frame that waits for those ahead of it: its magnitudes (B, C, F, 1) and its features of every level."""

    magnitude: Tensor
    features: list[Tensor]


class Stream(MaskStream):
    """What the layers keep of a song's frames gone by, and the frames whose look-ahead is not yet there.

    The first frame pushed has the number `first_frame`.
    """

    def __init__(
        self, network: AutoregressiveFrameTransformer, look_ahead_frames: int, *, first_frame: int = 0
    ) -> None:
        self._network = network
        self._look_ahead_frames = look_ahead_frames
        num_kept = network.config.crop_frames - 1 + look_ahead_frames
        num_blocks = network.config.num_decoders
        self._memories = [[RollingMemory(num_kept, first_frame) for _ in range(num_blocks)] for _ in network.decoders]
        self._mixture_past, self._past = KeptPast(first_frame), KeptPast(first_frame)
        self._waiting: deque[_Frame] = deque()
        self._before: Tensor | None = None  # the stems of the frame last decoded, (B, 2 C, F, 1)
        self._no_masks = torch.empty(1, network.config.num_channels, network.config.num_bins, 0)

    @torch.no_grad()
    def push(self, magnitude: Tensor) -> Tensor:
        """Take the next frames (B, C, F, n), n >= 0, and return the masks (B, C, F, m), m >= 0, of those now known."""
        if magnitude.shape[-1] > 0:
            self._network.require_shape(magnitude)
            self._embed(magnitude)
        self._no_masks = magnitude[..., :0]
        return self._decode_until(self._look_ahead_frames)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """Return the masks (B, C, F, m) of the frames still owed, after which no frame comes."""
        return self._decode_until(0)

    def _embed(self, magnitude: Tensor) -> None:
        """Let the memories take the frames (B, C, F, n), which then wait for their turn."""
        levels = self._network.embed(magnitude)
        remembered = self._network.remember(levels, self._mixture_past)
        for memories, kept in zip(self._memories, remembered, strict=True):
            for memory, (keys, values) in zip(memories, kept, strict=True):
                memory.append(keys, values)
        self._mixture_past.advance(magnitude.shape[3])
        for frame in range(magnitude.shape[3]):
            now = slice(frame, frame + 1)
            self._waiting.append(_Frame(magnitude[..., now], [features[:, now] for features in levels]))

    def _decode_until(self, num_waiting: int) -> Tensor:
        masks = [self._no_masks]
        while len(self._waiting) > num_waiting:
            masks.append(self._decode(self._waiting.popleft()))
        return torch.cat(masks, dim=3)

    def _decode(self, frame: _Frame) -> Tensor:
        network, now = self._network, self._past.first_frame
        start, end = now - network.config.crop_frames + 1, now + self._look_ahead_frames + 1
        memories = [[memory.view(start, end) for memory in memories] for memories in self._memories]
        if self._before is None:
            self._before = torch.zeros_like(frame.magnitude.repeat(1, 2, 1, 1))
        mask = network.decode(frame.features, self._before, memories, self._past, ahead=self._look_ahead_frames)
        self._before = stems(frame.magnitude, estimate_instrumental(mask, frame.magnitude))
        self._past.advance(1)
        return mask


def stems(mixture: Tensor, instrumental: Tensor) -> Tensor:
    """Return the magnitudes (B, 2 C, F, n) of both stems, instrumental first, from two (B, C, F, n)."""
    return torch.cat((instrumental, (mixture - instrumental).clamp(min=0)), dim=1)
