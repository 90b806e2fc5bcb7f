"""Carries out plans: from a cache and an `ExamplePlan` to normalised magnitudes, and batches of them for a network.

Losses that judge what is heard take complex spectrograms on the same scale instead.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from vrtool.audio.spectrogram import ComplexArray, StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import CachedTrack
from vrtool.dataset.drawer import PlanDrawer
from vrtool.dataset.kernels import Signals, addresses_of, mix_into
from vrtool.dataset.plan import EQUALISER_POINTS_HZ, ExamplePlan, Layer
from vrtool.dataset.rows import RowArray
from vrtool.errors import CacheError

NUM_CHANNELS = 2
"""Examples are stereo; a mono track feeds both sides."""
SMALLEST_SCALE = 1e-9
"""What silence is divided by: keeps 0 / 0 out of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training example: magnitudes (channel, bin, frame) in [0, 1]; 1.0 stands for the magnitude `scale`."""

    mixture: FloatArray
    instrumental: FloatArray
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleBuilder:
    """Builds the examples that plans describe, from the tracks the plans name."""

    tracks: Mapping[str, CachedTrack]
    stft: StftSpec

    def build(self, plan: ExamplePlan) -> Example:
        """Return one plan's example."""
        result = np.empty((2, NUM_CHANNELS, plan.num_frames, self.stft.num_bins), np.float32)
        scale = self.build_into(plan, result)
        mixture, instrumental = result.transpose(0, 1, 3, 2)
        return Example(mixture=mixture, instrumental=instrumental, scale=scale)

    def build_into(self, plan: ExamplePlan, result: FloatArray) -> float:
        """Write a plan's magnitudes, shape (2 targets, 2 channels, frame, bin); return the example's scale.

        With shape (..., bin, 2) it writes real and imaginary parts instead, in units of the scale. A mixup partner is
        then blended in as sound, not as magnitudes: the blend is a signal, and its two targets belong together.
        Raises CacheError if a track's file holds what is no audio.
        """
        scale = self._mix(plan, plan.mixup_weight, result, blend=False)
        if plan.mixup is not None:
            self._mix(plan.mixup, 1.0 - plan.mixup_weight, result, blend=True)
        return scale

    def _mix(self, plan: ExamplePlan, share: float, result: FloatArray, *, blend: bool) -> float:
        crops, signals = self.gather(plan)
        least_scale = max(plan.peak, SMALLEST_SCALE)
        scale = mix_into(signals, crops[0].dtype["parts"].base, least_scale, share, result, blend=blend)
        if not math.isfinite(scale):
            raise CacheError(
                f"one of {', '.join(sorted({layer.track for layer in plan.layers}))} holds numbers that are no audio: "
                "bytes of the cache have changed; vrtool inspect-dataset --verify names the file, delete it and run "
                "vrtool prepare again"
            )
        return scale

    def gather(self, plan: ExamplePlan) -> tuple[list[RowArray], Signals]:
        """Return the crops of a plan's signals, without those of its mixup partner, and what the kernel is to do."""
        parts = _sorted_by_target([part for layer in plan.layers for part in self._parts(layer)])
        crops = [self._read(part.layer) for part in parts]
        num_shared = sum(part.target == "both" for part in parts)
        signals = Signals(
            addresses=addresses_of(crops),
            shapes=np.array([rows.shape for rows in crops], np.int64),
            positions=np.array([part.layer.position_frames for part in parts], np.int64),
            channels=np.array([part.layer.channels for part in parts], np.int64),
            gains=np.array([part.gains for part in parts], np.float32),
            equalisers=np.stack([equaliser_curve(part.layer.equaliser_db, self.stft) for part in parts]),
            num_shared=num_shared,
            num_instrumental=num_shared + sum(part.target == "instrumental" for part in parts),
        )
        return crops, signals

    def _read(self, layer: Layer) -> RowArray:
        return self.tracks[layer.track].read(layer.role, layer.offset_frames, layer.num_frames)

    def _parts(self, layer: Layer) -> list[_Part]:
        """Return a layer's stored signals with their gains in each target they are part of."""
        parts = []
        for signal, sign in self._stored(layer):
            mixture, instrumental = (
                tuple(sign * gain for gain in gains) for gains in (layer.mixture_gains, layer.instrumental_gains)
            )
            if mixture == instrumental:
                parts.append(_Part(layer=signal, target="both", gains=mixture))
                continue
            if any(mixture):
                parts.append(_Part(layer=signal, target="mixture", gains=mixture))
            if any(instrumental):
                parts.append(_Part(layer=signal, target="instrumental", gains=instrumental))
        return parts

    def _stored(self, layer: Layer) -> list[tuple[Layer, float]]:
        """Return the stored signals a layer is made of, with signs: a pair's vocals are mixture less instrumental."""
        if layer.role in self.tracks[layer.track].header.storage:
            return [(layer, 1.0)]
        return [(replace(layer, role="mixture"), 1.0), (replace(layer, role="instrumental"), -1.0)]

    def build_complex(self, plan: ExamplePlan) -> tuple[ComplexArray, ComplexArray]:
        """Return mixture and instrumental as unscaled spectrograms (channel, bin, frame), without the mixup partner.

        For validation, which measures what would be heard; plain numpy, and the oracle of the compiled kernel's tests.
        """
        targets = np.zeros((2, NUM_CHANNELS, self.stft.num_bins, plan.num_frames), np.complex64)
        for layer in plan.layers:
            equaliser = equaliser_curve(layer.equaliser_db, self.stft)[:, None]
            frames = slice(layer.position_frames, layer.position_frames + layer.num_frames)
            for signal, sign in self._stored(layer):
                track = self.tracks[signal.track]
                crop = track.read_complex(signal.role, layer.offset_frames, layer.num_frames)[list(layer.channels)]
                gains = np.array([layer.mixture_gains, layer.instrumental_gains], np.float32) * sign
                targets[..., frames] += gains[:, :, None, None] * (equaliser * crop)
        return targets[0], targets[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A stored signal with its gains (left, right) in one target, or in both where they are the same."""

    layer: Layer
    target: Literal["both", "instrumental", "mixture"]
    gains: tuple[float, ...]


def _sorted_by_target(parts: Sequence[_Part]) -> list[_Part]:
    return sorted(parts, key=lambda part: ("both", "instrumental", "mixture").index(part.target))


def equaliser_curve(points_db: tuple[float, ...], stft: StftSpec) -> FloatArray:
    """Return the linear gain of every bin, shape (bin,): straight lines in dB over octaves; ones without points."""
    if not points_db:
        return np.ones(stft.num_bins, np.float32)
    curve_db = np.interp(_bin_octaves(stft), np.log2(EQUALISER_POINTS_HZ), points_db)
    return (10.0 ** (curve_db / 20.0)).astype(np.float32)


@lru_cache(maxsize=4)
def _bin_octaves(stft: StftSpec) -> npt.NDArray[np.float64]:
    bins_hz = np.arange(stft.num_bins) * stft.sample_rate / stft.n_fft
    return np.log2(np.maximum(bins_hz, EQUALISER_POINTS_HZ[0]))


Content = Literal["magnitudes", "spectrograms"]
"""What batches hold: float32 magnitudes in [0, 1], or complex64 numbers on the same scale, of twice the size."""


class TrainingBatches(Dataset[torch.Tensor]):
    """Batches by number: item b holds the examples b x batch_size and on, wherever and whenever it is asked for.

    An item has shape (2 targets, example, channel, bin, frame): mixtures, then instrumentals, magnitudes or complex
    numbers as `content` says. It is a view of memory
    with bins last, the order in which the cache stores and the network computes. Examples are numbered through the
    run; an epoch is `epoch_examples` of them, a whole number of batches, as crops may be longer in the next.
    """

    def __init__(
        self,
        drawer: PlanDrawer,
        builder: ExampleBuilder,
        *,
        batch_size: int,
        epoch_examples: int,
        content: Content = "magnitudes",
    ) -> None:
        assert epoch_examples % batch_size == 0, "a batch belongs to one epoch"
        self._drawer = drawer
        self._builder = builder
        self._batch_size = batch_size
        self._epoch_examples = epoch_examples
        self.content = content

    def place(self, number: int) -> tuple[int, int]:
        """Return the epoch of the example of this number and its index there, both counted from 0."""
        return divmod(number, self._epoch_examples)

    def plan(self, number: int) -> ExamplePlan:
        """Return the plan of the example of this number."""
        return self._drawer.draw(*self.place(number))

    def numbers(self, batch: int) -> range:
        """Return the numbers of the examples of a batch."""
        return range(batch * self._batch_size, (batch + 1) * self._batch_size)

    @property
    def largest_size(self) -> int:
        """The numbers that the memory of any item has room for."""
        return self._batch_size * math.prod(self._shape(self._drawer.crops.longest))

    def write(self, batch: int, memory: FloatArray) -> None:
        """Write an item's numbers to the start of memory (number,)."""
        plans = [self.plan(number) for number in self.numbers(batch)]
        shape = self._shape(plans[0].num_frames)
        _build_all(self._builder, plans, memory[: self._batch_size * math.prod(shape)].reshape(len(plans), *shape))

    def view(self, batch: int, memory: torch.Tensor) -> torch.Tensor:
        """Return the item that was written to memory (number,)."""
        epoch = batch * self._batch_size // self._epoch_examples
        shape = self._shape(self._drawer.crops.at(epoch))
        examples = memory[: self._batch_size * math.prod(shape)].view(self._batch_size, *shape)
        return _as_batch(examples, self.content)

    def __getitem__(self, batch: int) -> torch.Tensor:
        memory = torch.empty(self.largest_size)
        self.write(batch, memory.numpy())
        return self.view(batch, memory)

    def _shape(self, num_frames: int) -> tuple[int, ...]:
        return _example_shape(num_frames, self._builder.stft, self.content)


def build_batch(builder: ExampleBuilder, plans: Sequence[ExamplePlan], content: Content) -> torch.Tensor:
    """Return the batch of these plans, which have the same number of frames, as `TrainingBatches` would."""
    examples = torch.empty(len(plans), *_example_shape(plans[0].num_frames, builder.stft, content))
    _build_all(builder, plans, examples.numpy())
    return _as_batch(examples, content)


def batch_sha256(batch: torch.Tensor) -> str:
    """Return the SHA-256 of a batch's numbers, example by example, in hexadecimal digits."""
    return hashlib.sha256(batch.permute(1, 0, 2, 4, 3).contiguous().numpy().data).hexdigest()


def _example_shape(num_frames: int, stft: StftSpec, content: Content) -> tuple[int, ...]:
    """Return the shape of an example in memory: (target, channel, frame, bin), and (2,) for a complex number."""
    parts = () if content == "magnitudes" else (2,)
    return (2, NUM_CHANNELS, num_frames, stft.num_bins, *parts)


def _build_all(builder: ExampleBuilder, plans: Sequence[ExamplePlan], examples: FloatArray) -> None:
    for plan, example in zip(plans, examples, strict=True):
        builder.build_into(plan, example)


def _as_batch(examples: torch.Tensor, content: Content) -> torch.Tensor:
    """Return examples as they lie in memory in the order of a batch, without a copy."""
    if content == "spectrograms":
        examples = torch.view_as_complex(examples)
    return examples.permute(1, 0, 2, 4, 3)
