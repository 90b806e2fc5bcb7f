"""Carries out plans: from a cache and an `ExamplePlan` to normalised magnitudes, and batches of them for a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from vrtool.audio.spectrogram import ComplexArray, StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.augmentation import EQUALISER_POINTS_HZ, ExamplePlan, Layer, PlanDrawer
from vrtool.dataset.cache import CachedTrack
from vrtool.dataset.kernels import ShortArray, layer_magnitudes, scale_into

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
        result = np.zeros((2, NUM_CHANNELS, plan.num_frames, self.stft.num_bins), np.float32)
        scale = self.build_into(plan, result)
        mixture, instrumental = result.transpose(0, 1, 3, 2)
        return Example(mixture=mixture, instrumental=instrumental, scale=scale)

    def build_into(self, plan: ExamplePlan, result: FloatArray) -> float:
        """Add a plan's magnitudes to zeros of shape (2 targets, 2 channels, frame, bin); return the example's scale."""
        magnitudes = np.empty_like(result)
        scale = self._add(plan, plan.mixup_weight, magnitudes, result)
        if plan.mixup is not None:
            self._add(plan.mixup, 1.0 - plan.mixup_weight, magnitudes, result)
        return scale

    def _add(self, plan: ExamplePlan, weight: float, magnitudes: FloatArray, result: FloatArray) -> float:
        signals = [signal for layer in plan.layers for signal in _signals(layer)]
        crops = [self._read(layer) for layer, _ in signals]
        largest = layer_magnitudes(
            tuple(values for values, _ in crops),
            tuple(scale for _, scale in crops),
            np.array([layer.position_frames for layer, _ in signals], np.int64),
            np.array([layer.channels for layer, _ in signals], np.int64),
            np.array([[layer.mixture_gains, layer.instrumental_gains] for layer, _ in signals], np.float32)
            * np.array([sign for _, sign in signals], np.float32)[:, None, None],
            np.stack([equaliser_curve(layer.equaliser_db, self.stft) for layer, _ in signals]),
            magnitudes,
        )
        scale = max(float(largest), plan.peak, SMALLEST_SCALE)
        scale_into(magnitudes, 1.0 / scale, weight, result)
        return scale

    def _read(self, layer: Layer) -> tuple[ShortArray, FloatArray]:
        return self.tracks[layer.track].read(layer.role, layer.offset_frames, layer.num_frames)

    def build_complex(self, plan: ExamplePlan) -> tuple[ComplexArray, ComplexArray]:
        """Return mixture and instrumental as unscaled spectrograms (channel, bin, frame), without the mixup partner.

        For validation, which measures what would be heard; plain numpy, and the oracle of the compiled kernel's tests.
        """
        targets = np.zeros((2, NUM_CHANNELS, self.stft.num_bins, plan.num_frames), np.complex64)
        for layer in plan.layers:
            equaliser = equaliser_curve(layer.equaliser_db, self.stft)[:, None]
            frames = slice(layer.position_frames, layer.position_frames + layer.num_frames)
            for signal, sign in _signals(layer):
                track = self.tracks[signal.track]
                crop = track.read_complex(signal.role, layer.offset_frames, layer.num_frames)[list(layer.channels)]
                gains = np.array([layer.mixture_gains, layer.instrumental_gains], np.float32) * sign
                targets[..., frames] += gains[:, :, None, None] * (equaliser * crop)
        return targets[0], targets[1]


def _signals(layer: Layer) -> list[tuple[Layer, float]]:
    """Return the stored signals a layer is made of, with signs: a pair's vocals are mixture less instrumental."""
    if layer.track.startswith("pair/") and layer.role == "vocals":
        return [(replace(layer, role="mixture"), 1.0), (replace(layer, role="instrumental"), -1.0)]
    return [(layer, 1.0)]


def equaliser_curve(points_db: tuple[float, ...], stft: StftSpec) -> FloatArray:
    """Return the linear gain of every bin, shape (bin,): straight lines in dB over octaves; ones without points."""
    if not points_db:
        return np.ones(stft.num_bins, np.float32)
    bins_hz = np.arange(stft.num_bins) * stft.sample_rate / stft.n_fft
    octaves = np.log2(np.maximum(bins_hz, EQUALISER_POINTS_HZ[0]))
    curve_db = np.interp(octaves, np.log2(EQUALISER_POINTS_HZ), points_db)
    return (10.0 ** (curve_db / 20.0)).astype(np.float32)


class TrainingBatches(Dataset[torch.Tensor]):
    """Batches by number: item b holds the examples b x batch_size and on, wherever and whenever it is asked for.

    An item has shape (2 targets, example, channel, bin, frame): mixtures, then instrumentals. It is a view of memory
    with bins last, the order in which the cache stores and the network computes. Examples are numbered through the
    run; an epoch is `epoch_examples` of them.
    """

    def __init__(self, drawer: PlanDrawer, builder: ExampleBuilder, *, batch_size: int, epoch_examples: int) -> None:
        self._drawer = drawer
        self._builder = builder
        self._batch_size = batch_size
        self._epoch_examples = epoch_examples

    def plan(self, number: int) -> ExamplePlan:
        """Return the plan of the example of this number."""
        return self._drawer.draw(*divmod(number, self._epoch_examples))

    def __getitem__(self, batch: int) -> torch.Tensor:
        plans = [self.plan(batch * self._batch_size + place) for place in range(self._batch_size)]
        shape = (self._batch_size, 2, NUM_CHANNELS, self._drawer.crop_frames, self._builder.stft.num_bins)
        result = np.zeros(shape, np.float32)
        for plan, example in zip(plans, result, strict=True):
            self._builder.build_into(plan, example)
        return torch.from_numpy(result).permute(1, 0, 2, 4, 3)
