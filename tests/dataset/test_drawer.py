from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.augmentation import NO_AUGMENTATION, AugmentationConfig
from vrtool.dataset.cache import CachedTrack
from vrtool.dataset.drawer import CropSchedule, PlanDrawer
from vrtool.dataset.header import SignalStatistics, SignalStorage, TrackHeader
from vrtool.dataset.plan import EQUALISER_POINTS_HZ, ExamplePlan, Layer
from vrtool.dataset.pools import make_pools
from vrtool.dataset.track import Kind, Role
from vrtool.errors import RecipeError

CROP_FRAMES = 50
NUM_PLANS = 1000
PROBABILITIES = [
    setting.name
    for setting in fields(AugmentationConfig)
    if setting.name.endswith(("_probability", "_share", "_decay"))
]
NO_CHANCES: dict[str, Any] = dict.fromkeys(PROBABILITIES, 0.0)
NOTHING = AugmentationConfig(**NO_CHANCES)
"""Every probability is zero: what a test sets to another value is all that happens."""


def track(
    kind: Kind,
    name: str,
    *,
    library: str = "songs",
    num_frames: int = 200,
    num_channels: int = 2,
    level_db: float = -20.0,
) -> CachedTrack:
    """Return a track that exists in its header alone: enough to draw plans from."""
    own: dict[Kind, Role] = {"instrumental": "instrumental", "vocal": "vocals", "pair": "mixture"}
    stored: tuple[Role, ...] = ("mixture", "instrumental") if kind == "pair" else (own[kind],)
    measured: tuple[Role, ...] = (*stored, "vocals") if kind == "pair" else stored
    statistics = {
        role: SignalStatistics(
            peak=100.0 + position, level_db=level_db, sample_peak=0.5, silence_share=0.0, clipping_share=0.0
        )
        for position, role in enumerate(measured)
    }
    header = TrackHeader(
        name=name,
        library=library,
        kind=kind,
        stft=StftSpec(sample_rate=8000, n_fft=256, hop_length=128),
        precision="int16",
        num_channels=num_channels,
        num_frames=num_frames,
        num_samples=(num_frames - 1) * 128,
        statistics=statistics,
        storage=dict.fromkeys(stored, SignalStorage(offset_bytes=0, crc32=0)),
        sources=(),
    )
    return CachedTrack(path=Path(f"cache/{kind}/{name}.h5"), header=header, split="training")


def drawer(config: AugmentationConfig, *, seed: int = 0, **pools: Any) -> PlanDrawer:
    tracks = [track for pool in pools.values() for track in pool]
    crops = CropSchedule(num_frames=CROP_FRAMES)
    return PlanDrawer(config=config, pools=make_pools(tracks, config.library_weights), crops=crops, seed=seed)


MIXING: dict[str, Any] = {
    "instrumentals": tuple(track("instrumental", f"i{number}") for number in range(5)),
    "vocals": tuple(track("vocal", f"v{number}") for number in range(5)),
}
PAIRS: dict[str, Any] = {"pairs": tuple(track("pair", f"p{number}") for number in range(5))}


def plans(config: AugmentationConfig, **pools: Any) -> Iterator[ExamplePlan]:
    source = drawer(config, **pools)
    return (source.draw(0, index) for index in range(NUM_PLANS))


def share_of(happens: Callable[[ExamplePlan], bool], config: AugmentationConfig, **pools: Any) -> float:
    return sum(map(happens, plans(config, **pools))) / NUM_PLANS


def near(probability: float) -> Any:
    """Return what a share of NUM_PLANS draws is within four standard deviations of."""
    return pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / NUM_PLANS))


def vocals_of(plan: ExamplePlan) -> list[Layer]:
    return [layer for layer in plan.layers if layer.role == "vocals"]


class TestPurity:
    def test_a_plan_depends_on_seed_epoch_and_index_alone(self) -> None:
        numbers = [(epoch, index) for epoch in range(3) for index in range(40)]
        in_order = {number: drawer(AugmentationConfig(), **MIXING, **PAIRS).draw(*number) for number in numbers}
        other = drawer(AugmentationConfig(), **MIXING, **PAIRS)
        for number in random.Random(0).sample(numbers, len(numbers)):
            assert other.draw(*number) == in_order[number]

    def test_each_of_seed_epoch_and_index_changes_the_plan(self) -> None:
        found = {
            drawer(AugmentationConfig(), seed=seed, **MIXING).draw(epoch, index)
            for seed in range(5)
            for epoch in range(5)
            for index in range(5)
        }
        assert len(found) == 125

    def test_large_seeds_and_numbers_are_fine(self) -> None:
        source = drawer(AugmentationConfig(), seed=2**63, **MIXING)
        assert source.draw(2**40, 2**40) == source.draw(2**40, 2**40)

    def test_pinned_plan(self) -> None:
        # A run can be repeated with a later version as long as this holds.
        config = replace(
            NOTHING,
            vocals_probability=1.0,
            second_vocals_probability=1.0,
            max_vocal_layers=2,
            vocals_swap_probability=0.5,
            vocals_polarity_probability=0.5,
            vocals_level_db=(-9.0, 6.0),
            vocals_pan_db=(0.0, 3.0),
            swap_probability=0.5,
        )
        plan = drawer(config, seed=1, **MIXING).draw(2, 3)
        described = [
            (layer.track, layer.offset_frames, layer.channels, tuple(round(gain, 6) for gain in layer.mixture_gains))
            for layer in plan.layers
        ]
        assert described == [
            ("instrumental/i1", 134, (0, 1), (1.0, 1.0)),
            ("vocal/v2", 87, (0, 1), (1.236081, 1.146865)),
            ("vocal/v4", 72, (0, 1), (-0.266978, -0.3688)),
        ]

    def test_pinned_plan_of_a_pair(self) -> None:
        # The same plan as before settings that are 0 here came to be.
        config = replace(NOTHING, pair_share=1.0, pair_extra_vocals_probability=1.0, vocals_level_db=(-9.0, 6.0))
        described = [
            (layer.track, layer.offset_frames, tuple(round(gain, 6) for gain in layer.mixture_gains))
            for layer in drawer(config, seed=1, **MIXING, **PAIRS).draw(2, 3).layers
        ]
        assert described == [
            ("pair/p2", 24, (1.0, 1.0)),
            ("pair/p2", 24, (0.0, 0.0)),
            ("vocal/v2", 62, (1.744173, 1.618285)),
        ]


class TestPlaces:
    @settings(max_examples=50, deadline=None)
    @given(lengths=st.lists(st.integers(1, 150), min_size=1, max_size=4), index=st.integers(0, 1000))
    def test_a_layer_lies_within_its_track_and_within_the_example(self, lengths: list[int], index: int) -> None:
        tracks = tuple(track("instrumental", f"{place}", num_frames=length) for place, length in enumerate(lengths))
        voices = tuple(track("vocal", f"{place}", num_frames=length) for place, length in enumerate(lengths))
        sources = {item.key: item for item in (*tracks, *voices)}
        plan = drawer(AugmentationConfig(), instrumentals=tracks, vocals=voices).draw(0, index)
        self.require_within(plan, sources)
        for part in (plan, plan.mixup or plan):
            assert part.num_frames == CROP_FRAMES
            for layer in part.layers:
                assert layer.num_frames == min(sources[layer.track].header.num_frames, CROP_FRAMES)
        reflecting = AugmentationConfig(vocals_doubling_probability=1.0, vocals_reverberation_probability=1.0)
        self.require_within(drawer(reflecting, instrumentals=tracks, vocals=voices).draw(0, index), sources)

    def require_within(self, plan: ExamplePlan, sources: dict[str, CachedTrack]) -> None:
        for layer in plan.all_layers:
            assert layer.num_frames >= 1
            assert 0 <= layer.offset_frames <= sources[layer.track].header.num_frames - layer.num_frames
            assert 0 <= layer.position_frames <= CROP_FRAMES - layer.num_frames

    @pytest.mark.parametrize("num_frames", [CROP_FRAMES - 3, CROP_FRAMES, CROP_FRAMES + 3])
    def test_every_place_is_reached_and_none_more_than_others(self, num_frames: int) -> None:
        source = drawer(NOTHING, instrumentals=(track("instrumental", "a", num_frames=num_frames),))
        layers = [source.draw(0, index).layers[0] for index in range(NUM_PLANS)]
        places = [layer.offset_frames + layer.position_frames for layer in layers]
        count = abs(num_frames - CROP_FRAMES) + 1
        for place in range(count):
            assert places.count(place) / NUM_PLANS == near(1 / count)

    def test_a_pairs_two_halves_are_cut_at_the_same_place(self) -> None:
        for plan in plans(NOTHING, **PAIRS):
            mixture, instrumental = plan.layers
            assert (mixture.role, instrumental.role) == ("mixture", "instrumental")
            assert mixture.track == instrumental.track
            assert mixture.offset_frames == instrumental.offset_frames


class TestMixing:
    @pytest.mark.parametrize("probability", [0.0, 0.3, 0.98, 1.0])
    def test_vocals_join_the_mixture_with_their_probability(self, probability: float) -> None:
        config = replace(NOTHING, vocals_probability=probability)
        assert share_of(lambda plan: len(vocals_of(plan)) == 1, config, **MIXING) == near(probability)

    def test_the_instrumental_is_in_both_targets_and_vocals_only_in_the_mixture(self) -> None:
        for plan in plans(replace(NOTHING, vocals_probability=1.0, second_vocals_probability=0.5), **MIXING):
            for layer in plan.layers:
                if layer.role == "instrumental":
                    assert layer.mixture_gains == layer.instrumental_gains == (1.0, 1.0)
                else:
                    assert layer.instrumental_gains == (0.0, 0.0)
                    assert all(layer.mixture_gains)

    def test_further_vocals_join_with_decaying_probability(self) -> None:
        config = replace(
            NOTHING, vocals_probability=1.0, second_vocals_probability=0.8, second_vocals_decay=0.5, max_vocal_layers=4
        )
        counts = np.bincount([len(vocals_of(plan)) for plan in plans(config, **MIXING)], minlength=6) / NUM_PLANS
        expected = [0, 0.2, 0.8 * 0.6, 0.8 * 0.4 * 0.8, 0.8 * 0.4 * 0.2, 0]
        assert counts.tolist() == [near(share) for share in expected]

    def test_no_more_vocals_join_than_allowed(self) -> None:
        config = replace(
            NOTHING, vocals_probability=1.0, second_vocals_probability=1.0, second_vocals_decay=1.0, max_vocal_layers=3
        )
        assert {len(vocals_of(plan)) for plan in plans(config, **MIXING)} == {3}

    def test_the_shares_of_several_vocals_sum_to_one_and_vary(self) -> None:
        config = replace(
            NOTHING,
            vocals_probability=1.0,
            second_vocals_probability=1.0,
            second_vocals_decay=1.0,
            max_vocal_layers=3,
            vocals_level_db=(0.0, 0.0),
            vocals_pan_db=(0.0, 0.0),
        )
        shares = [[layer.mixture_gains[0] for layer in vocals_of(plan)] for plan in plans(config, **MIXING)]
        np.testing.assert_allclose(np.sum(shares, axis=1), 1.0)
        # Beta(1, 1) is uniform: mean 1/2, quartiles 1/4 and 3/4.
        first = [share[0] for share in shares]
        assert np.quantile(first, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.05)

    def test_vocals_are_brought_to_the_level_of_the_instrumental_and_varied_around_it(self) -> None:
        config = replace(NOTHING, vocals_probability=1.0, vocals_level_db=(-9.0, 6.0), vocals_pan_db=(0.0, 0.0))
        pools = {
            "instrumentals": (track("instrumental", "i", level_db=-12.0),),
            "vocals": (track("vocal", "v", level_db=-30.0),),
        }
        gains_db = [20 * math.log10(vocals_of(plan)[0].mixture_gains[0]) for plan in plans(config, **pools)]
        relative_db = np.array(gains_db) - 18.0
        assert relative_db.min() == pytest.approx(-9.0, abs=0.1)
        assert relative_db.max() == pytest.approx(6.0, abs=0.1)
        assert np.median(relative_db) == pytest.approx(-1.5, abs=0.6)

    def test_panning_goes_to_either_side_by_up_to_its_range(self) -> None:
        config = replace(NOTHING, vocals_probability=1.0, vocals_level_db=(0.0, 0.0), vocals_pan_db=(1.0, 3.0))
        gains = np.array([vocals_of(plan)[0].mixture_gains for plan in plans(config, **MIXING)])
        difference_db = 20 * np.log10(gains[:, 0] / gains[:, 1])
        np.testing.assert_allclose(gains.prod(axis=1), 1.0)  # the middle keeps the level
        assert (np.abs(difference_db) >= 0.999).all()
        assert difference_db.min() == pytest.approx(-3.0, abs=0.02)
        assert difference_db.max() == pytest.approx(3.0, abs=0.02)
        assert np.mean(difference_db > 0) == near(0.5)

    @pytest.mark.parametrize(("setting", "happens"), [
        ("vocals_swap_probability", lambda layer: layer.channels == (1, 0)),
        ("vocals_polarity_probability", lambda layer: layer.mixture_gains[0] < 0 and layer.mixture_gains[1] < 0),
        ("vocals_mute_channel_probability", lambda layer: layer.mixture_gains.count(0.0) == 1),
        ("vocals_equaliser_probability", lambda layer: len(layer.equaliser_db) == len(EQUALISER_POINTS_HZ)),
    ])  # fmt: skip
    @pytest.mark.parametrize("probability", [0.025, 0.5, 1.0])
    def test_what_is_done_to_vocals_has_its_probability(
        self, setting: str, happens: Callable[[Layer], bool], probability: float
    ) -> None:
        changes: dict[str, Any] = {"vocals_probability": 1.0, setting: probability}
        config = replace(NOTHING, **changes)
        assert share_of(lambda plan: happens(vocals_of(plan)[0]), config, **MIXING) == near(probability)

    def test_either_channel_is_muted_as_often(self) -> None:
        config = replace(NOTHING, vocals_probability=1.0, vocals_mute_channel_probability=1.0)
        assert share_of(lambda plan: vocals_of(plan)[0].mixture_gains[0] == 0.0, config, **MIXING) == near(0.5)

    def test_the_equaliser_reaches_its_range_at_every_octave(self) -> None:
        config = replace(NOTHING, vocals_probability=1.0, vocals_equaliser_probability=1.0, equaliser_db=6.0)
        curves = np.array([vocals_of(plan)[0].equaliser_db for plan in plans(config, **MIXING)])
        assert curves.min(axis=0) == pytest.approx([-6.0] * 9, abs=0.1)
        assert curves.max(axis=0) == pytest.approx([6.0] * 9, abs=0.1)

    def test_the_instrumental_is_equalised_alike_in_both_targets(self) -> None:
        config = replace(NOTHING, instrumental_equaliser_probability=0.5)
        assert share_of(lambda plan: bool(plan.layers[0].equaliser_db), config, **MIXING) == near(0.5)
        for plan in plans(replace(config, instrumental_equaliser_probability=1.0), **PAIRS):
            mixture, instrumental = plan.layers
            assert mixture.equaliser_db == instrumental.equaliser_db != ()

    def test_every_track_is_drawn_as_often_as_the_others(self) -> None:
        config = replace(NOTHING, vocals_probability=1.0)
        starts = [plan.layers[0].track for plan in plans(config, **MIXING)]
        voices = [vocals_of(plan)[0].track for plan in plans(config, **MIXING)]
        for number in range(5):
            assert starts.count(f"instrumental/i{number}") / NUM_PLANS == near(0.2)
            assert voices.count(f"vocal/v{number}") / NUM_PLANS == near(0.2)


class TestPairs:
    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_examples_start_from_a_pair_as_often_as_asked(self, share: float) -> None:
        config = replace(NOTHING, pair_share=share)
        assert share_of(lambda plan: plan.layers[0].role == "mixture", config, **MIXING, **PAIRS) == near(share)

    def test_pairs_alone_are_enough_whatever_their_share(self) -> None:
        assert share_of(lambda plan: plan.layers[0].role == "mixture", NOTHING, **PAIRS) == 1.0

    def test_a_pair_is_used_as_it_is(self) -> None:
        for plan in plans(NOTHING, **PAIRS):
            mixture, instrumental = plan.layers
            assert (mixture.mixture_gains, mixture.instrumental_gains) == ((1.0, 1.0), (0.0, 0.0))
            assert (instrumental.mixture_gains, instrumental.instrumental_gains) == ((0.0, 0.0), (1.0, 1.0))
            assert (mixture.peak, instrumental.peak) == (100.0, 101.0)

    def test_extra_vocals_join_a_pair_with_their_probability(self) -> None:
        config = replace(NOTHING, pair_share=1.0, pair_extra_vocals_probability=0.25)
        assert share_of(lambda plan: len(plan.layers) == 3, config, **MIXING, **PAIRS) == near(0.25)

    def test_a_remixed_pair_gives_its_instrumental_only(self) -> None:
        config = replace(NOTHING, pair_share=1.0, pair_remix_probability=0.4, vocals_probability=1.0)
        remixed = [plan for plan in plans(config, **MIXING, **PAIRS) if plan.layers[0].role == "instrumental"]
        assert len(remixed) / NUM_PLANS == near(0.4)
        for plan in remixed:
            instrumental, vocals = plan.layers
            assert instrumental.track.startswith("pair/")
            assert instrumental.mixture_gains == instrumental.instrumental_gains == (1.0, 1.0)
            assert vocals.track.startswith("vocal/")

    def test_a_rebalanced_pair_is_its_own_stems_at_another_level(self) -> None:
        config = replace(NOTHING, pair_share=1.0, pair_rebalance_probability=0.4, pair_rebalance_db=(-6.0, 2.0))
        config = replace(config, vocals_pan_db=(0.0, 0.0))
        rebalanced = [plan for plan in plans(config, **MIXING, **PAIRS) if plan.layers[0].role == "instrumental"]
        assert len(rebalanced) / NUM_PLANS == near(0.4)
        for plan in rebalanced:
            instrumental, vocals = plan.layers
            assert instrumental.mixture_gains == instrumental.instrumental_gains == (1.0, 1.0)
            assert (vocals.role, vocals.peak, vocals.instrumental_gains) == ("vocals", 102.0, (0.0, 0.0))
            assert (vocals.track, vocals.offset_frames) == (instrumental.track, instrumental.offset_frames)
        levels_db = 20 * np.log10([plan.layers[1].mixture_gains for plan in rebalanced])
        assert (levels_db.min(), levels_db.max()) == (pytest.approx(-6.0, abs=0.1), pytest.approx(2.0, abs=0.1))

    def test_rebalanced_vocals_are_changed_as_those_of_another_track(self) -> None:
        changes = {name: 0.5 for name in PROBABILITIES if name.startswith("vocals_") and name != "vocals_probability"}
        config = replace(NOTHING, pair_rebalance_probability=1.0, **cast(dict[str, Any], changes))
        drawn = list(plans(config, **PAIRS))
        for happens in (
            lambda plan: plan.layers[1].channels == (1, 0),
            lambda plan: max(plan.layers[1].mixture_gains) < 0,
            lambda plan: 0.0 in plan.layers[1].mixture_gains,
            lambda plan: bool(plan.layers[1].equaliser_db),
            lambda plan: len(plan.layers) > 2,
        ):
            assert 0.1 < sum(map(happens, drawn)) / NUM_PLANS < 0.9

    def test_a_pair_without_vocals_is_never_rebalanced(self) -> None:
        silent = track("pair", "p")
        faint = replace(silent.header.statistics["vocals"], level_db=-80.0)
        statistics = {**silent.header.statistics, "vocals": faint}
        silent = replace(silent, header=replace(silent.header, statistics=statistics))
        config = replace(NOTHING, pair_rebalance_probability=1.0)
        assert share_of(lambda plan: plan.layers[0].role == "mixture", config, pairs=(silent,)) == 1.0

    def test_the_vocals_of_pairs_are_layered_as_often_as_asked(self) -> None:
        config = replace(NOTHING, vocals_probability=1.0, pair_vocals_share=0.3)
        share = share_of(lambda plan: vocals_of(plan)[0].track.startswith("pair/"), config, **MIXING, **PAIRS)
        assert share == near(0.3)

    def test_the_vocals_of_pairs_stand_in_where_there_are_no_others(self) -> None:
        config = replace(NOTHING, vocals_probability=1.0)
        for plan in plans(config, instrumentals=MIXING["instrumentals"], **PAIRS):
            (layer,) = vocals_of(plan)
            assert layer.track.startswith("pair/")
            assert layer.peak == 102.0


class TestWholeExample:
    @pytest.mark.parametrize("pools", [MIXING, PAIRS])
    @pytest.mark.parametrize("probability", [0.0, 0.025, 1.0])
    def test_identity_makes_the_mixture_the_instrumental(self, pools: dict[str, Any], probability: float) -> None:
        config = replace(NOTHING, vocals_probability=1.0, identity_probability=probability)

        def is_identity(plan: ExamplePlan) -> bool:
            return all(layer.mixture_gains == layer.instrumental_gains for layer in plan.layers)

        assert share_of(is_identity, config, **pools) == near(probability)

    def test_a_swap_exchanges_the_channels_of_every_layer_with_their_gains(self) -> None:
        config = replace(NOTHING, vocals_probability=1.0, vocals_pan_db=(1.0, 3.0))
        for plan, swapped in zip(
            plans(config, **MIXING), plans(replace(config, swap_probability=1.0), **MIXING), strict=True
        ):
            for layer, other in zip(plan.layers, swapped.layers, strict=True):
                assert other.channels == layer.channels[::-1]
                assert other.mixture_gains == layer.mixture_gains[::-1]

    def test_a_swap_has_its_probability(self) -> None:
        config = replace(NOTHING, swap_probability=0.5)
        assert share_of(lambda plan: plan.layers[0].channels == (1, 0), config, **PAIRS) == near(0.5)

    def test_a_mono_track_feeds_both_channels(self) -> None:
        mono = {"instrumentals": (track("instrumental", "m", num_channels=1),)}
        assert all(
            plan.layers[0].channels == (0, 0)
            for plan in plans(AugmentationConfig(), **mono, vocals=MIXING["vocals"])
            if plan.layers[0].role == "instrumental"
        )

    def test_mixup_has_its_probability_and_one_partner(self) -> None:
        config = replace(NOTHING, mixup_probability=0.5)
        assert share_of(lambda plan: plan.mixup is not None, config, **PAIRS) == near(0.5)
        assert all(plan.mixup is None or plan.mixup.mixup is None for plan in plans(config, **PAIRS))

    def test_mixup_weights_follow_the_beta_distribution(self) -> None:
        config = replace(NOTHING, mixup_probability=1.0, mixup_beta=0.4)
        weights = np.array([plan.mixup_weight for plan in plans(config, **PAIRS)])
        assert ((weights >= 0) & (weights <= 1)).all()
        assert weights.mean() == pytest.approx(0.5, abs=0.04)
        # The variance of Beta(a, a) is 1 / (4 (2 a + 1)).
        assert weights.var() == pytest.approx(1 / (4 * 1.8), rel=0.06)

    def test_without_mixup_an_example_has_all_the_weight(self) -> None:
        assert all(plan.mixup_weight == 1.0 for plan in plans(NOTHING, **PAIRS))


class TestPools:
    @pytest.mark.parametrize(("pools", "expected"), [
        ({}, False),
        ({"instrumentals": MIXING["instrumentals"]}, False),
        ({"vocals": MIXING["vocals"]}, False),
        (MIXING, True),
        (PAIRS, True),
    ])  # fmt: skip
    def test_examples_need_pairs_or_instrumentals_and_vocals(self, pools: dict[str, Any], expected: bool) -> None:
        assert drawer(NOTHING, **pools).pools.can_make_examples is expected

    def test_examples_start_from_instrumentals_and_pairs(self) -> None:
        assert drawer(NOTHING, **MIXING, **PAIRS).pools.num_starts == 10


class TestNoAugmentation:
    def test_without_augmentation_only_tracks_and_places_are_drawn(self) -> None:
        for plan in plans(NO_AUGMENTATION, **MIXING):
            instrumental, vocals = plan.layers
            assert plan.mixup is None
            assert instrumental.channels == vocals.channels == (0, 1)
            assert instrumental.equaliser_db == vocals.equaliser_db == ()
            assert vocals.mixture_gains == pytest.approx((10 ** (-3 / 20), 10 ** (-3 / 20)))


LIBRARIES: dict[str, Any] = {
    "instrumentals": tuple(track("instrumental", f"i{number}", library=f"{number % 2}") for number in range(6)),
    "vocals": tuple(track("vocal", f"v{number}", library=f"{number % 2}") for number in range(6)),
}


class TestWeights:
    def share_of_first_library(self, weights: dict[str, float]) -> float:
        config = replace(NOTHING, library_weights=weights)
        first = {f"instrumental/i{number}" for number in range(0, 6, 2)}
        return share_of(lambda plan: plan.layers[0].track in first, config, **LIBRARIES)

    def test_tracks_weigh_the_same_unless_told_otherwise(self) -> None:
        assert self.share_of_first_library({}) == near(0.5)

    def test_tracks_are_drawn_as_often_as_their_library_weighs(self) -> None:
        assert self.share_of_first_library({"instrumental/0": 3.0}) == near(0.75)
        assert self.share_of_first_library({"instrumental/0": 0.5, "instrumental/1": 2.0}) == near(0.2)

    def test_weights_are_of_kinds_apart(self) -> None:
        config = replace(NOTHING, vocals_probability=1.0, library_weights={"vocal/0": 3.0})
        first = {f"vocal/v{number}" for number in range(0, 6, 2)}
        assert share_of(lambda plan: vocals_of(plan)[0].track in first, config, **LIBRARIES) == near(0.75)
        assert self.share_of_first_library({"vocal/0": 3.0}) == near(0.5)

    def test_a_library_of_weight_zero_is_left_out(self) -> None:
        assert self.share_of_first_library({"instrumental/0": 0.0}) == 0.0
        pools = make_pools([*LIBRARIES["instrumentals"]], {"instrumental/0": 0.0})
        assert pools.num_starts == 3

    def test_an_unknown_library_is_an_error_that_names_the_known_ones(self) -> None:
        with pytest.raises(RecipeError, match=r"'vocal/choirs'.*instrumental/0, instrumental/1, vocal/0, vocal/1"):
            drawer(replace(NOTHING, library_weights={"vocal/choirs": 1.0}), **LIBRARIES)


class TestCropSchedule:
    def test_stages_come_first_and_each_lasts_its_epochs(self) -> None:
        crops = CropSchedule(num_frames=40, stages=((2, 10), (1, 20)))
        assert [crops.at(epoch) for epoch in range(5)] == [10, 10, 20, 40, 40]
        assert crops.longest == 40
        assert CropSchedule(num_frames=40).longest == 40
        assert CropSchedule(num_frames=10, stages=((1, 30),)).longest == 30

    def test_plans_have_the_frames_of_their_epoch(self) -> None:
        pools = make_pools([*MIXING["instrumentals"], *MIXING["vocals"]], {})
        crops = CropSchedule(num_frames=40, stages=((1, 10),))
        source = PlanDrawer(config=AugmentationConfig(), pools=pools, crops=crops)
        for epoch, expected in ((0, 10), (1, 40)):
            plan = source.draw(epoch, 7)
            assert plan.num_frames == expected
            assert all(layer.num_frames <= expected for layer in plan.layers)
