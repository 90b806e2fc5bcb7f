from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.dataset.augmentation import NO_AUGMENTATION, AugmentationConfig
from vrtool.dataset.cache import Cache
from vrtool.dataset.drawer import CropSchedule, PlanDrawer
from vrtool.dataset.examples import ExampleBuilder
from vrtool.dataset.plan import ExamplePlan, Layer
from vrtool.dataset.pools import make_pools
from vrtool.dataset.reflections import NUM_REFLECTIONS, delayed, reverberation

CROP_FRAMES = 50
VOICE = Layer(
    track="vocal/voice.h5",
    role="vocals",
    peak=1.0,
    offset_frames=30,
    num_frames=CROP_FRAMES,
    position_frames=0,
    channels=(0, 1),
    mixture_gains=(0.5, 0.25),
)


def tail(layer: Layer = VOICE, *, seed: int = 0, decay_seconds: float = 0.8, hop_seconds: float = 0.02) -> list[Layer]:
    return reverberation(
        layer,
        np.random.default_rng(seed),
        level_db=-20.0,
        decay_seconds=decay_seconds,
        hop_seconds=hop_seconds,
        num_frames=CROP_FRAMES,
    )


class TestDelayed:
    @settings(max_examples=100, deadline=None)
    @given(
        length=st.integers(1, 120),
        where=st.floats(0.0, 1.0),
        delay=st.integers(1, 2 * CROP_FRAMES),
    )
    def test_every_frame_of_the_track_sounds_that_much_later(self, length: int, where: float, delay: int) -> None:
        spare = length - CROP_FRAMES
        place = round(where * abs(spare))
        layer = replace(
            VOICE,
            offset_frames=place if spare > 0 else 0,
            num_frames=min(length, CROP_FRAMES),
            position_frames=place if spare < 0 else 0,
        )
        # Where frame t of the example comes from in the track: one line of slope 1, cut by both ends.
        origin = layer.offset_frames - layer.position_frames
        expected = {frame: frame + origin - delay for frame in range(CROP_FRAMES)}
        expected = {frame: source for frame, source in expected.items() if 0 <= source < length}
        seen = {
            later.position_frames + index: later.offset_frames + index
            for later in delayed(layer, delay, (1.0, 1.0), CROP_FRAMES)
            for index in range(later.num_frames)
        }
        # A crop from within a track knows nothing of what comes after it, and needs nothing.
        assert seen == expected

    def test_gains_are_those_given_and_all_else_is_the_layers(self) -> None:
        (later,) = delayed(VOICE, 3, (0.1, -0.2), CROP_FRAMES)
        assert later == replace(VOICE, offset_frames=27, mixture_gains=(0.1, -0.2))

    def test_what_would_begin_after_the_example_is_left_out(self) -> None:
        assert delayed(replace(VOICE, offset_frames=0), CROP_FRAMES, (1.0, 1.0), CROP_FRAMES) == []


class TestReverberation:
    def test_reflections_come_one_after_another_and_fade_as_the_tail_does(self) -> None:
        for seed in range(50):
            layers = tail(seed=seed)
            delays = np.array([30 - layer.offset_frames for layer in layers])
            assert len(layers) == NUM_REFLECTIONS
            assert (np.diff(delays) > 0).all()
            assert delays.min() >= 1
            levels_db = 20 * np.log10(np.abs([layer.mixture_gains[0] for layer in layers]))
            # 60 dB in 0.8 s, 40 frames.
            np.testing.assert_allclose(np.diff(levels_db), -1.5 * np.diff(delays))

    def test_left_and_right_keep_their_balance_and_have_signs_of_their_own(self) -> None:
        gains = np.array([layer.mixture_gains for seed in range(50) for layer in tail(seed=seed)])
        np.testing.assert_allclose(np.abs(gains[:, 0] / gains[:, 1]), 2.0)
        assert {tuple(signs) for signs in np.sign(gains).tolist()} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}

    @pytest.mark.parametrize("hop_seconds", [0.005, 0.02, 0.05])
    def test_its_energy_is_that_of_the_tail_whatever_the_hop(self, hop_seconds: float) -> None:
        far = replace(VOICE, offset_frames=500)
        tails = (tail(far, seed=seed, hop_seconds=hop_seconds) for seed in range(2000))
        energy = np.mean([sum(layer.mixture_gains[0] ** 2 for layer in layers) for layers in tails])
        # 1 % of the voice's energy in 50 ms, falling by 60 dB in 0.8 s, down to -40 dB.
        num_hops = round(40 / 60 * 0.8 / hop_seconds + 0.499)
        every_hop = 0.01 * hop_seconds / 0.05 * sum(10 ** (-7.5 * hop_seconds * hop) for hop in range(num_hops))
        assert energy == pytest.approx(0.25 * every_hop, rel=0.07)

    def test_a_tail_shorter_than_a_hop_is_one_reflection(self) -> None:
        (layer,) = tail(decay_seconds=0.01, hop_seconds=0.05)
        assert abs(layer.mixture_gains[0]) == pytest.approx(0.05)
        assert layer.offset_frames == 29


class TestSettings:
    @pytest.mark.parametrize("setting", ["vocals_doubling_probability", "vocals_reverberation_probability"])
    def test_the_vocals_alone_get_it_as_often_as_asked(self, small_cache: Cache, setting: str) -> None:
        changes: dict[str, Any] = {"pair_share": 0.0, setting: 0.3}
        config = replace(NO_AUGMENTATION, **changes)
        drawn = [self.draw(small_cache, config, index) for index in range(500)]
        changed = [plan for plan in drawn if len(plan.layers) > 2]
        assert len(changed) / 500 == pytest.approx(0.3, abs=0.08)
        for plan in changed:
            assert {layer.role for layer in plan.layers[1:]} == {"vocals"}
            assert not any(any(layer.instrumental_gains) for layer in plan.layers[1:])

    def test_a_doubled_voice_is_heard_again_on_the_other_side(self, small_cache: Cache) -> None:
        config = replace(NO_AUGMENTATION, pair_share=0.0, vocals_pan_db=(6.0, 6.0), vocals_doubling_probability=1.0)
        builder = ExampleBuilder(tracks={track.key: track for track in small_cache.tracks}, stft=small_cache.stft)
        plan = next(plan for plan in (self.draw(small_cache, config, index) for index in range(50)) if long(plan))
        instrumental, voice, double = plan.layers
        ratio = double.mixture_gains[0] / voice.mixture_gains[1]
        assert voice.offset_frames - double.offset_frames == 2  # of 16 ms: 30 ms are asked for
        assert 10 ** (-6 / 20) <= ratio <= 1.0
        assert double.mixture_gains[1] / voice.mixture_gains[0] == pytest.approx(ratio)
        both, _ = builder.build_complex(replace(plan, layers=(instrumental, voice, double)))
        without, _ = builder.build_complex(replace(plan, layers=(instrumental, voice)))
        bare, _ = builder.build_complex(replace(plan, layers=(instrumental,)))
        heard, sung = both - without, without - bare
        left, right = voice.mixture_gains
        expected = ratio * np.array([right / left, left / right])[:, None, None] * sung[:, :, :-2]
        np.testing.assert_allclose(heard[:, :, 2:], expected, atol=1e-5 * np.abs(sung).max())

    def draw(self, cache: Cache, config: AugmentationConfig, index: int) -> ExamplePlan:
        pools = make_pools([track for track in cache.tracks if track.header.kind != "pair"], {})
        return PlanDrawer(config=config, pools=pools, crops=CropSchedule(num_frames=CROP_FRAMES)).draw(0, index)


def long(plan: ExamplePlan) -> bool:
    """Return whether every layer fills the example and had something before it."""
    return all(layer.num_frames == plan.num_frames and layer.offset_frames > 0 for layer in plan.layers)
