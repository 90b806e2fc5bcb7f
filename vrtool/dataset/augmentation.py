"""Draws every random choice behind a training example; `examples.py` carries them out.

The draw is pure: a configuration, the headers of the tracks and (seed, epoch, index) give the same `ExamplePlan` on any
machine, in any worker, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from vrtool.dataset.cache import CachedTrack
from vrtool.dataset.library import Role
from vrtool.errors import RecipeError

FAINT_VOCALS_DB = -40.0
"""A pair whose mixture and instrumental differ by less than this, relative to the mixture, has no vocals."""

EQUALISER_POINTS_HZ = (60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3840.0, 7680.0, 15360.0)
"""Octave-spaced centres of the random equaliser, as on a graphic equaliser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    """The `[augmentation]` section of a recipe. Probabilities are in [0, 1], ranges are (low, high)."""

    vocals_probability: float = 0.98
    """An instrumental gets a layer of vocals; otherwise the mixture is the instrumental alone."""
    second_vocals_probability: float = 0.5
    """Another vocal track joins; after each one the probability is multiplied by `second_vocals_decay`."""
    second_vocals_decay: float = 0.5
    max_vocal_layers: int = 4
    vocals_swap_probability: float = 0.5
    vocals_mute_channel_probability: float = 0.025
    vocals_polarity_probability: float = 0.5
    vocals_level_db: tuple[float, float] = (-9.0, 6.0)
    """RMS of the vocals relative to the instrumental's, over what is not silent of each track."""
    vocals_pan_db: tuple[float, float] = (0.0, 3.0)
    """Difference between the channels, to either side."""
    vocals_equaliser_probability: float = 0.5
    instrumental_equaliser_probability: float = 0.0
    equaliser_db: float = 6.0
    """Largest gain or cut at each octave of the random equaliser."""
    pair_share: float = 0.5
    """How often an example starts from a pair when there are instrumentals as well."""
    pair_remix_probability: float = 0.0
    """The vocals of a pair are replaced: its instrumental is used like a track of the instrumental pool."""
    pair_vocals_share: float = 0.0
    """How often a vocal layer is the vocals of some pair (its mixture less its instrumental)."""
    pair_extra_vocals_probability: float = 0.25
    """A pair gets an extra layer of vocals on its mixture."""
    swap_probability: float = 0.5
    """The example's left and right are exchanged."""
    identity_probability: float = 0.025
    """The mixture becomes the instrumental: the network must learn to leave music alone."""
    mixup_probability: float = 0.5
    mixup_beta: float = 0.4
    """The example is blended with another one, with a weight from Beta(mixup_beta, mixup_beta)."""

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.name.endswith(("_probability", "_share", "_decay")) and not 0.0 <= value <= 1.0:
                raise RecipeError(f"[augmentation] {setting.name} must be between 0 and 1, found {value}")
            if isinstance(value, tuple) and not -math.inf < value[0] <= value[1] < math.inf:
                raise RecipeError(f"[augmentation] {setting.name} must be [low, high], found {list(value)}")
        if self.max_vocal_layers < 1:
            raise RecipeError(f"[augmentation] max_vocal_layers must be 1 or more, found {self.max_vocal_layers}")
        if not 0.0 < self.mixup_beta < math.inf:
            raise RecipeError(f"[augmentation] mixup_beta must be above 0, found {self.mixup_beta}")
        if not 0.0 <= self.equaliser_db < math.inf:
            raise RecipeError(f"[augmentation] equaliser_db must be 0 or more, found {self.equaliser_db}")


NO_AUGMENTATION = AugmentationConfig(
    vocals_probability=1.0,
    second_vocals_probability=0.0,
    vocals_swap_probability=0.0,
    vocals_mute_channel_probability=0.0,
    vocals_polarity_probability=0.0,
    vocals_level_db=(-3.0, -3.0),
    vocals_pan_db=(0.0, 0.0),
    vocals_equaliser_probability=0.0,
    pair_extra_vocals_probability=0.0,
    swap_probability=0.0,
    identity_probability=0.0,
    mixup_probability=0.0,
)
"""One layer of vocals at a typical level and nothing else: what validation examples are drawn with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One signal of one track inside an example.

    Frames `offset_frames` to `offset_frames + num_frames` of the track stand at `position_frames` of the example. Left
    and right are fed by the track's `channels`, times the gains (linear, signed) for each target, times the equaliser.
    `peak` is the track's largest magnitude in this role.
    """

    track: str
    role: Role
    peak: float
    offset_frames: int
    num_frames: int
    position_frames: int
    channels: tuple[int, int]
    mixture_gains: tuple[float, float] = (0.0, 0.0)
    instrumental_gains: tuple[float, float] = (0.0, 0.0)
    equaliser_db: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplePlan:
    """Every random choice behind one training example.

    `mixup_weight` is this example's share in the blend with its partner `mixup`, which has the rest.
    """

    num_frames: int
    layers: tuple[Layer, ...]
    mixup: ExamplePlan | None = None
    mixup_weight: float = 1.0

    @property
    def peak(self) -> float:
        """The largest of the tracks' peaks times their gains, mixtures apart: the least that 1.0 may stand for."""
        return max(
            layer.peak * max(map(abs, layer.mixture_gains + layer.instrumental_gains))
            for layer in self.layers
            if layer.role != "mixture"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """The tracks that examples are drawn from."""

    instrumentals: tuple[CachedTrack, ...]
    vocals: tuple[CachedTrack, ...]
    pairs: tuple[CachedTrack, ...]

    @property
    def singing_pairs(self) -> tuple[CachedTrack, ...]:
        """The pairs whose vocals can be told from a codec's residue, and so can be laid over other music."""
        return tuple(
            track
            for track in self.pairs
            if track.header.statistics["vocals"].level_db - track.header.statistics["mixture"].level_db
            > FAINT_VOCALS_DB
        )

    @property
    def can_make_examples(self) -> bool:
        """Whether there are pairs, or instrumentals and vocals to mix."""
        return bool(self.pairs) or bool(self.instrumentals and self.vocals)

    @property
    def num_starts(self) -> int:
        """The tracks that an example can start from."""
        return len(self.instrumentals) + len(self.pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDrawer:
    """Draws plans of `crop_frames` frames from pools of tracks."""

    config: AugmentationConfig
    pools: Pools
    crop_frames: int
    seed: int = 0

    def draw(self, epoch: int, index: int) -> ExamplePlan:
        """Return the plan of one example, which depends on (seed, epoch, index) alone."""
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, epoch, index]))
        plan = self._draw_one(rng)
        if not _happens(rng, self.config.mixup_probability):
            return plan
        weight = float(rng.beta(self.config.mixup_beta, self.config.mixup_beta))
        return replace(plan, mixup=self._draw_one(rng), mixup_weight=weight)

    def _draw_one(self, rng: np.random.Generator) -> ExamplePlan:
        config, pools = self.config, self.pools
        from_pair = bool(pools.pairs) and (not pools.instrumentals or _happens(rng, config.pair_share))
        layers = self._start_from_pair(rng) if from_pair else self._start_from_instrumental(rng, pools.instrumentals)
        if _happens(rng, config.identity_probability):
            layers = [_as_identity(layer) for layer in layers if any(layer.instrumental_gains)]
        if _happens(rng, config.swap_probability):
            layers = [_swapped(layer) for layer in layers]
        return ExamplePlan(num_frames=self.crop_frames, layers=tuple(layers))

    def _start_from_pair(self, rng: np.random.Generator) -> list[Layer]:
        config = self.config
        if _happens(rng, config.pair_remix_probability):
            return self._start_from_instrumental(rng, self.pools.pairs)
        track = _choose(rng, self.pools.pairs)
        mixture = self._place(rng, track, "mixture", self._equaliser(rng, config.instrumental_equaliser_probability))
        instrumental = replace(mixture, role="instrumental", peak=track.header.statistics["instrumental"].peak)
        layers = [
            replace(mixture, mixture_gains=(1.0, 1.0)),
            replace(instrumental, instrumental_gains=(1.0, 1.0)),
        ]
        if _happens(rng, config.pair_extra_vocals_probability):
            layers.append(self._vocals(rng, beside=track, share=1.0))
        return layers

    def _start_from_instrumental(self, rng: np.random.Generator, pool: Sequence[CachedTrack]) -> list[Layer]:
        config = self.config
        track = _choose(rng, pool)
        layer = self._place(rng, track, "instrumental", self._equaliser(rng, config.instrumental_equaliser_probability))
        layers = [replace(layer, mixture_gains=(1.0, 1.0), instrumental_gains=(1.0, 1.0))]
        if not _happens(rng, config.vocals_probability):
            return layers
        share, another = 1.0, config.second_vocals_probability
        for _ in range(config.max_vocal_layers - 1):
            if not _happens(rng, another):
                break
            part = float(rng.beta(1.0, 1.0))
            layers.append(self._vocals(rng, beside=track, share=share * part))
            share *= 1.0 - part
            another *= config.second_vocals_decay
        return [*layers, self._vocals(rng, beside=track, share=share)]

    def _vocals(self, rng: np.random.Generator, *, beside: CachedTrack, share: float) -> Layer:
        config, pools = self.config, self.pools
        singing = pools.singing_pairs or pools.pairs
        from_pair = bool(singing) and (not pools.vocals or _happens(rng, config.pair_vocals_share))
        track = _choose(rng, singing if from_pair else pools.vocals)
        layer = self._place(rng, track, "vocals", self._equaliser(rng, config.vocals_equaliser_probability))
        if _happens(rng, config.vocals_swap_probability):
            layer = _swapped(layer)
        relative_db = _vocals_level_db(beside, track) + rng.uniform(*config.vocals_level_db)
        return replace(layer, mixture_gains=self._vocal_gains(rng, share * 10.0 ** (relative_db / 20.0)))

    def _vocal_gains(self, rng: np.random.Generator, gain: float) -> tuple[float, float]:
        config = self.config
        pan_db = rng.uniform(*config.vocals_pan_db) * rng.choice([-0.5, 0.5])
        sign = -1.0 if _happens(rng, config.vocals_polarity_probability) else 1.0
        left, right = (float(sign * gain * 10.0 ** (side * pan_db / 20.0)) for side in (1.0, -1.0))
        if _happens(rng, config.vocals_mute_channel_probability):
            return (0.0, right) if rng.random() < 0.5 else (left, 0.0)
        return left, right

    def _place(self, rng: np.random.Generator, track: CachedTrack, role: Role, equaliser: tuple[float, ...]) -> Layer:
        """Draw where in the track the crop begins; a track shorter than the crop lands somewhere in silence."""
        spare = track.header.num_frames - self.crop_frames
        where = int(rng.integers(0, abs(spare) + 1))
        return Layer(
            track=track.key,
            role=role,
            peak=track.header.statistics[role].peak,
            offset_frames=where if spare > 0 else 0,
            num_frames=min(track.header.num_frames, self.crop_frames),
            position_frames=where if spare < 0 else 0,
            channels=(0, track.header.num_channels - 1),
            equaliser_db=equaliser,
        )

    def _equaliser(self, rng: np.random.Generator, probability: float) -> tuple[float, ...]:
        if not _happens(rng, probability):
            return ()
        reach = self.config.equaliser_db
        return tuple(float(gain) for gain in rng.uniform(-reach, reach, len(EQUALISER_POINTS_HZ)))


def _happens(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def _choose(rng: np.random.Generator, pool: Sequence[CachedTrack]) -> CachedTrack:
    return pool[int(rng.integers(len(pool)))]


def _vocals_level_db(beside: CachedTrack, vocals: CachedTrack) -> float:
    """Return the gain that brings the vocals to the level of the instrumental they are laid over."""
    return beside.header.statistics["instrumental"].level_db - vocals.header.statistics["vocals"].level_db


def _as_identity(layer: Layer) -> Layer:
    return replace(layer, mixture_gains=layer.instrumental_gains)


def _swapped(layer: Layer) -> Layer:
    """Exchange left and right of the source and, where gains are set already, of these with it."""
    return replace(
        layer,
        channels=layer.channels[::-1],
        mixture_gains=layer.mixture_gains[::-1],
        instrumental_gains=layer.instrumental_gains[::-1],
    )
