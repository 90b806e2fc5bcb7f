"""Draws every random choice behind a training example; `examples.py` carries them out.

The draw is pure: a configuration, the headers of the tracks and (seed, epoch, index) give the same `ExamplePlan` on any
machine, in any worker, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.dataset.cache import CachedTrack
from vrtool.dataset.plan import EQUALISER_POINTS_HZ, ExamplePlan, Gains, Layer
from vrtool.dataset.pools import Pool, Pools, sings
from vrtool.dataset.reflections import doubling, reverberation
from vrtool.dataset.track import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class CropSchedule:
    """How long crops are: `num_frames`, after the `stages`, each of so many epochs with crops of so many frames."""

    num_frames: int
    stages: tuple[tuple[int, int], ...] = ()

    @property
    def longest(self) -> int:
        """The frames of the longest crops."""
        return max(self.num_frames, *(num_frames for _, num_frames in self.stages), 0)

    def at(self, epoch: int) -> int:
        """Return the frames of a crop in an epoch, counted from 0."""
        for num_epochs, num_frames in self.stages:
            if epoch < num_epochs:
                return num_frames
            epoch -= num_epochs
        return self.num_frames


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDrawer:
    """Draws plans from pools of tracks, with crops as their schedule says."""

    config: AugmentationConfig
    pools: Pools
    crops: CropSchedule
    seed: int = 0

    def draw(self, epoch: int, index: int) -> ExamplePlan:
        """Return the plan of one example, which depends on (seed, epoch, index) alone."""
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, epoch, index]))
        draw = _Draw(rng=rng, config=self.config, pools=self.pools, num_frames=self.crops.at(epoch))
        plan = draw.example()
        if not _happens(rng, self.config.mixup_probability):
            return plan
        weight = float(rng.beta(self.config.mixup_beta, self.config.mixup_beta))
        return replace(plan, mixup=draw.example(), mixup_weight=weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draw:
    """The draw of one plan: its generator is used up step by step."""

    rng: np.random.Generator
    config: AugmentationConfig
    pools: Pools
    num_frames: int

    def example(self) -> ExamplePlan:
        config, pools = self.config, self.pools
        from_pair = bool(pools.pairs) and (not pools.instrumentals or self._happens(config.pair_share))
        layers = self._start_from_pair() if from_pair else self._start_from_instrumental(pools.instrumentals)
        if self._happens(config.identity_probability):
            layers = [_as_identity(layer) for layer in layers if any(layer.instrumental_gains)]
        if self._happens(config.swap_probability):
            layers = [_swapped(layer) for layer in layers]
        return ExamplePlan(num_frames=self.num_frames, layers=tuple(layers))

    def _start_from_pair(self) -> list[Layer]:
        config = self.config
        if self._happens(config.pair_remix_probability):
            return self._start_from_instrumental(self.pools.pairs)
        track = self.pools.pairs.choose(self.rng)
        if sings(track) and self._may_happen(config.pair_rebalance_probability):
            return self._rebalanced(track)
        mixture = self._place(track, "mixture", self._equaliser(config.instrumental_equaliser_probability))
        instrumental = replace(mixture, role="instrumental", peak=track.header.statistics["instrumental"].peak)
        layers = [
            replace(mixture, mixture_gains=(1.0, 1.0)),
            replace(instrumental, instrumental_gains=(1.0, 1.0)),
        ]
        if self._happens(config.pair_extra_vocals_probability):
            layers += self._vocals(beside=track, share=1.0)
        return layers

    def _start_from_instrumental(self, pool: Pool) -> list[Layer]:
        config = self.config
        track = pool.choose(self.rng)
        layer = self._place(track, "instrumental", self._equaliser(config.instrumental_equaliser_probability))
        layers = [replace(layer, mixture_gains=(1.0, 1.0), instrumental_gains=(1.0, 1.0))]
        if not self._happens(config.vocals_probability):
            return layers
        share, another = 1.0, config.second_vocals_probability
        for _ in range(config.max_vocal_layers - 1):
            if not self._happens(another):
                break
            part = float(self.rng.beta(1.0, 1.0))
            layers += self._vocals(beside=track, share=share * part)
            share *= 1.0 - part
            another *= config.second_vocals_decay
        return [*layers, *self._vocals(beside=track, share=share)]

    def _vocals(self, *, beside: CachedTrack, share: float) -> list[Layer]:
        """Draw vocals of some track, and what a room or a desk adds to them."""
        config, pools = self.config, self.pools
        singing = pools.singing_pairs or pools.pairs
        from_pair = bool(singing) and (not pools.vocals or self._happens(config.pair_vocals_share))
        track = (singing if from_pair else pools.vocals).choose(self.rng)
        layer = self._place(track, "vocals", self._equaliser(config.vocals_equaliser_probability))
        if self._happens(config.vocals_swap_probability):
            layer = _swapped(layer)
        relative_db = _vocals_level_db(beside, track) + self.rng.uniform(*config.vocals_level_db)
        return self._sung(layer, share * 10.0 ** (relative_db / 20.0), track.header.stft.hop_seconds)

    def _rebalanced(self, pair: CachedTrack) -> list[Layer]:
        config = self.config
        music = self._place(pair, "instrumental", self._equaliser(config.instrumental_equaliser_probability))
        voice = replace(
            music,
            role="vocals",
            peak=pair.header.statistics["vocals"].peak,
            equaliser_db=self._equaliser(config.vocals_equaliser_probability),
        )
        if self._happens(config.vocals_swap_probability):
            voice = _swapped(voice)
        gain = 10.0 ** (self.rng.uniform(*config.pair_rebalance_db) / 20.0)
        music = replace(music, mixture_gains=(1.0, 1.0), instrumental_gains=(1.0, 1.0))
        return [music, *self._sung(voice, gain, pair.header.stft.hop_seconds)]

    def _sung(self, layer: Layer, gain: float, hop_seconds: float) -> list[Layer]:
        """Return a layer of vocals with gains, and what a desk and a room add to it."""
        layer = replace(layer, mixture_gains=self._vocal_gains(gain))
        return [layer, *self._doubling(layer, hop_seconds), *self._reverberation(layer, hop_seconds)]

    def _doubling(self, layer: Layer, hop_seconds: float) -> list[Layer]:
        if not self._may_happen(self.config.vocals_doubling_probability):
            return []
        return doubling(layer, self.rng, hop_seconds=hop_seconds, num_frames=self.num_frames)

    def _reverberation(self, layer: Layer, hop_seconds: float) -> list[Layer]:
        config = self.config
        if not self._may_happen(config.vocals_reverberation_probability):
            return []
        low, high = config.vocals_reverberation_seconds
        # As many short tails as long ones: drawn by ratios.
        decay_seconds = low * (high / low) ** self.rng.random()
        return reverberation(
            layer,
            self.rng,
            level_db=self.rng.uniform(*config.vocals_reverberation_db),
            decay_seconds=decay_seconds,
            hop_seconds=hop_seconds,
            num_frames=self.num_frames,
        )

    def _vocal_gains(self, gain: float) -> Gains:
        config, rng = self.config, self.rng
        pan_db = rng.uniform(*config.vocals_pan_db) * rng.choice([-0.5, 0.5])
        sign = -1.0 if self._happens(config.vocals_polarity_probability) else 1.0
        left, right = (float(sign * gain * 10.0 ** (side * pan_db / 20.0)) for side in (1.0, -1.0))
        if self._happens(config.vocals_mute_channel_probability):
            return (0.0, right) if rng.random() < 0.5 else (left, 0.0)
        return left, right

    def _place(self, track: CachedTrack, role: Role, equaliser: tuple[float, ...]) -> Layer:
        """Draw where in the track the crop begins; a track shorter than the crop lands somewhere in silence."""
        spare = track.header.num_frames - self.num_frames
        where = int(self.rng.integers(0, abs(spare) + 1))
        return Layer(
            track=track.key,
            role=role,
            peak=track.header.statistics[role].peak,
            offset_frames=where if spare > 0 else 0,
            num_frames=min(track.header.num_frames, self.num_frames),
            position_frames=where if spare < 0 else 0,
            channels=(0, track.header.num_channels - 1),
            equaliser_db=equaliser,
        )

    def _equaliser(self, probability: float) -> tuple[float, ...]:
        if not self._happens(probability):
            return ()
        reach = self.config.equaliser_db
        return tuple(float(gain) for gain in self.rng.uniform(-reach, reach, len(EQUALISER_POINTS_HZ)))

    def _happens(self, probability: float) -> bool:
        return _happens(self.rng, probability)

    def _may_happen(self, probability: float) -> bool:
        """Return as `_happens`, without a draw for 0: settings added later, while unused, leave older plans alone."""
        return probability > 0.0 and self._happens(probability)


def _happens(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


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
