"""The autoregressive frame transformer on its way through a song, frame by frame on its own output."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vrtool.model.causal_levels import Heard
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
        self._first_frame = first_frame
        num_kept = network.config.crop_frames - 1 + look_ahead_frames
        num_blocks = network.config.num_decoders
        first_heard = first_frame - network.reach.delay
        self._memories = [[RollingMemory(num_kept, first_heard) for _ in range(num_blocks)] for _ in network.levels]
        self._mixture_past, self._past = KeptPast(first_heard), KeptPast(first_frame)
        self._waiting: deque[_Frame] = deque()
        self._encoded: deque[list[Tensor]] = deque()  # of the waiting frames that the encoders are done with
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
        if self._waiting:
            last = self._waiting[-1].features
            # Silence lets the encoders out what they hold back.
            self._hear([x.new_zeros(x.shape[0], self._network.reach.delay, *x.shape[2:]) for x in last])
        return self._decode_until(0)

    def _embed(self, magnitude: Tensor) -> None:
        """Let the frames (B, C, F, n) wait for their turn, after they were heard."""
        levels = self._network.embed(magnitude)
        self._hear(levels)
        for frame in range(magnitude.shape[3]):
            now = slice(frame, frame + 1)
            self._waiting.append(_Frame(magnitude[..., now], [features[:, now] for features in levels]))

    def _hear(self, levels: list[Tensor]) -> None:
        """Let the memories take what the encoders make of the features (B, n, F, width) of every level."""
        num_frames = levels[0].shape[1]
        heard = self._network.hear(levels, self._mixture_past)
        for memories, (_, remembered) in zip(self._memories, heard, strict=True):
            for memory, (keys, values) in zip(memories, remembered, strict=True):
                memory.append(keys, values)
        for frame in range(num_frames):
            # What comes out first, late as it is, stands for frames before the song.
            if self._mixture_past.first_frame + frame >= self._first_frame:
                self._encoded.append([encoded[:, frame : frame + 1] for encoded, _ in heard])
        self._mixture_past.advance(num_frames)

    def _decode_until(self, num_waiting: int) -> Tensor:
        masks = [self._no_masks]
        while len(self._waiting) > num_waiting:
            masks.append(self._decode(self._waiting.popleft(), self._encoded.popleft()))
        return torch.cat(masks, dim=3)

    def _decode(self, frame: _Frame, encoded: list[Tensor]) -> Tensor:
        network, now = self._network, self._past.first_frame
        start = max(self._first_frame, now - network.config.crop_frames + 1)
        end = now + network.reach.ahead + 1
        heard = [
            Heard(features, of_level, [memory.view(start, end) for memory in memories])
            for features, of_level, memories in zip(frame.features, encoded, self._memories, strict=True)
        ]
        if self._before is None:
            self._before = torch.zeros_like(frame.magnitude.repeat(1, 2, 1, 1))
        mask = network.decode(heard, self._before, self._past)
        self._before = stems(frame.magnitude, estimate_instrumental(mask, frame.magnitude))
        self._past.advance(1)
        return mask


def stems(mixture: Tensor, instrumental: Tensor) -> Tensor:
    """Return the magnitudes (B, 2 C, F, n) of both stems, instrumental first, from two (B, C, F, n)."""
    return torch.cat((instrumental, (mixture - instrumental).clamp(min=0)), dim=1)
