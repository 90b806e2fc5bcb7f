from __future__ import annotations

import math
import pickle
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.audio.waveform import FloatArray, read_audio
from vrtool.dataset.augmentation import NO_AUGMENTATION, AugmentationConfig
from vrtool.dataset.cache import Cache, CachedTrack
from vrtool.dataset.drawer import CropSchedule, PlanDrawer
from vrtool.dataset.examples import ExampleBuilder, TrainingBatches, equaliser_curve
from vrtool.dataset.plan import EQUALISER_POINTS_HZ, ExamplePlan, Layer
from vrtool.dataset.pools import Pools, make_pools
from vrtool.errors import CacheError

CROP_FRAMES = 64
CROPS = CropSchedule(num_frames=CROP_FRAMES)
# Everything happens, often.
EVERYTHING = AugmentationConfig(
    vocals_probability=0.9,
    second_vocals_probability=0.6,
    second_vocals_decay=0.8,
    max_vocal_layers=4,
    vocals_swap_probability=0.5,
    vocals_mute_channel_probability=0.3,
    vocals_polarity_probability=0.5,
    vocals_equaliser_probability=0.5,
    instrumental_equaliser_probability=0.5,
    pair_share=0.4,
    pair_remix_probability=0.3,
    pair_vocals_share=0.4,
    pair_extra_vocals_probability=0.4,
    pair_rebalance_probability=0.4,
    vocals_doubling_probability=0.3,
    vocals_reverberation_probability=0.3,
    swap_probability=0.5,
    identity_probability=0.2,
    mixup_probability=0.4,
)


@pytest.fixture(scope="module")
def pools(small_cache: Cache) -> Pools:
    return make_pools(small_cache.tracks, {})


@pytest.fixture(scope="module")
def mixing_pools(small_cache: Cache) -> Pools:
    """The pools without pairs."""
    return make_pools([track for track in small_cache.tracks if track.header.kind != "pair"], {})


def builder_of(cache: Cache) -> ExampleBuilder:
    return ExampleBuilder(tracks={track.key: track for track in cache.tracks}, stft=cache.stft)


@pytest.fixture(scope="module")
def builder(small_cache: Cache) -> ExampleBuilder:
    return builder_of(small_cache)


@pytest.fixture(scope="module")
def drawer(pools: Pools) -> PlanDrawer:
    return PlanDrawer(config=EVERYTHING, pools=pools, crops=CROPS, seed=7)


@pytest.fixture(scope="module")
def batches(drawer: PlanDrawer, builder: ExampleBuilder) -> TrainingBatches:
    return TrainingBatches(drawer, builder, batch_size=3, epoch_examples=6)


def key(cache: Cache, kind: str, name: str) -> str:
    return next(track.key for track in cache.tracks if (track.header.kind, track.header.name) == (kind, name))


def num_voices(plan: ExamplePlan) -> int:
    return len({(layer.track, layer.equaliser_db) for layer in plan.layers if layer.role == "vocals"})


def is_later(voice: Layer, other: Layer) -> bool:
    """Return whether the other layer is of the same voice, later."""
    if (voice.role, voice.track, voice.equaliser_db) != ("vocals", other.track, other.equaliser_db):
        return False
    return other.role == "vocals" and origin(other) < origin(voice)


def origin(layer: Layer) -> int:
    """Return the frame of the track that stands at the example's first."""
    return layer.offset_frames - layer.position_frames


def scaled(builder: ExampleBuilder, plan: ExamplePlan) -> tuple[FloatArray, float]:
    """Return a plan's magnitudes (target, channel, bin, frame) by plain numpy, and their scale; no mixup."""
    magnitudes = np.abs(np.stack(builder.build_complex(plan)))
    scale = max(float(magnitudes.max()), plan.peak)
    return np.minimum(magnitudes / scale, 1.0), scale


class TestAgainstPlainNumpy:
    @pytest.mark.parametrize("precision", ["int16", "float32"])
    def test_every_kind_of_plan_gives_what_plain_numpy_does(
        self, drawer: PlanDrawer, small_cache: Cache, float_cache: Cache, precision: str
    ) -> None:
        builder = builder_of(small_cache if precision == "int16" else float_cache)
        for index in range(300):
            # The names of tracks are the same in both caches, and with them the plans.
            plan = drawer.draw(0, index)
            example = builder.build(plan)
            expected, scale = scaled(builder, plan)
            if plan.mixup is not None:
                partner, _ = scaled(builder, plan.mixup)
                expected = plan.mixup_weight * expected + (1.0 - plan.mixup_weight) * partner
            assert example.scale == pytest.approx(scale, rel=1e-5)
            result = np.stack([example.mixture, example.instrumental])
            np.testing.assert_allclose(result, expected, rtol=2e-5, atol=2e-6, err_msg=str(plan))

    def test_the_plans_of_that_test_are_of_every_kind(self, drawer: PlanDrawer, small_cache: Cache) -> None:
        mono = {track.key for track in small_cache.tracks if track.header.num_channels == 1}
        drawn = [drawer.draw(0, index) for index in range(300)]
        layers = [layer for plan in drawn for part in (plan, plan.mixup or plan) for layer in part.layers]
        vocals = [layer for layer in layers if layer.role == "vocals"]
        seen = {
            "mono instrumental": any(layer.track in mono and layer.role == "instrumental" for layer in layers),
            "mono vocals": any(layer.track in mono for layer in vocals),
            "mono vocals over stereo": any(
                plan.layers[0].track not in mono and plan.layers[-1].track in mono for plan in drawn
            ),
            "stereo vocals over mono": any(
                plan.layers[0].track in mono and plan.layers[-1].track not in mono for plan in drawn
            ),
            "pair as it is": any(layer.role == "mixture" for layer in layers),
            "vocals of a pair": any(layer.track.startswith("pair/") for layer in vocals),
            "swapped": any(layer.channels == (1, 0) for layer in layers),
            "muted": any(layer.mixture_gains.count(0.0) == 1 for layer in vocals),
            "inverted": any(max(layer.mixture_gains) < 0 for layer in vocals),
            "equalised": any(layer.equaliser_db for layer in vocals),
            "equalised instrumental": any(layer.equaliser_db and layer.role == "instrumental" for layer in layers),
            "short": any(layer.num_frames < CROP_FRAMES and layer.position_frames > 0 for layer in layers),
            "two vocals": any(num_voices(plan) == 2 for plan in drawn),
            "four vocals": any(num_voices(plan) == 4 for plan in drawn),
            "rebalanced": any(
                (one.role, other.role) == ("instrumental", "vocals") and one.track == other.track
                for one, other in pairwise(layers)
            ),
            "delayed": any(is_later(one, other) for one, other in pairwise(layers)),
            "delayed and cut": any(
                is_later(one, other) and one.num_frames != other.num_frames for one, other in pairwise(layers)
            ),
            "identity": any(layer.mixture_gains == layer.instrumental_gains for layer in layers),
            "mixup": any(plan.mixup is not None for plan in drawn),
        }
        assert [kind for kind, happened in seen.items() if not happened] == []

    def test_two_builds_are_the_same_to_the_bit(self, drawer: PlanDrawer, builder: ExampleBuilder) -> None:
        for index in range(20):
            one, other = (builder.build(drawer.draw(0, index)) for _ in range(2))
            np.testing.assert_array_equal(one.mixture, other.mixture)
            np.testing.assert_array_equal(one.instrumental, other.instrumental)


class TestAgainstSound:
    """A spectrogram is linear: layering cached tracks is what layering their sound would have given."""

    def complex_of(self, builder: ExampleBuilder, layers: tuple[Layer, ...]) -> tuple[Any, Any]:
        return builder.build_complex(ExamplePlan(num_frames=CROP_FRAMES, layers=layers))

    def layer(self, track: str, role: Any, **changes: Any) -> Layer:
        plain = Layer(
            track=track, role=role, peak=1.0, offset_frames=0, num_frames=CROP_FRAMES, position_frames=0,
            channels=(0, 1),
        )  # fmt: skip
        return replace(plain, **changes)

    def test_mixing_swapping_and_inverting(
        self, small_cache: Cache, small_library: Path, builder: ExampleBuilder
    ) -> None:
        music = read_audio(small_library / "instrumentals/stereo.wav").samples[:, :16000]
        voice = read_audio(small_library / "vocals/stereo.wav").samples[:, :16000]
        expected = stft(music + np.array([[-0.5], [-0.25]], np.float32) * voice[::-1], small_cache.stft)
        mixture, instrumental = self.complex_of(builder, (
            self.layer(
                key(small_cache, "instrumental", "stereo"), "instrumental",
                mixture_gains=(1.0, 1.0), instrumental_gains=(1.0, 1.0),
            ),
            self.layer(
                key(small_cache, "vocal", "stereo"), "vocals", channels=(1, 0), mixture_gains=(-0.5, -0.25)
            ),
        ))  # fmt: skip
        peak = np.abs(expected).max()
        np.testing.assert_allclose(mixture, expected[..., :CROP_FRAMES], atol=1e-4 * peak)
        np.testing.assert_allclose(instrumental, stft(music, small_cache.stft)[..., :CROP_FRAMES], atol=1e-4 * peak)

    def test_the_vocals_of_a_pair_are_its_mixture_less_its_instrumental(
        self, small_cache: Cache, small_library: Path, builder: ExampleBuilder
    ) -> None:
        folder = small_library / "pairs/stereo"
        difference = read_audio(folder / "mixture.wav").samples - read_audio(folder / "instrumental.wav").samples
        layer = self.layer(key(small_cache, "pair", "stereo"), "vocals", mixture_gains=(1.0, 1.0))
        mixture, _ = self.complex_of(builder, (layer,))
        expected = stft(difference, small_cache.stft)[..., :CROP_FRAMES]
        np.testing.assert_allclose(mixture, expected, atol=2e-4 * np.abs(expected).max())

    def test_a_short_track_stands_at_its_position_in_silence(self, small_cache: Cache, builder: ExampleBuilder) -> None:
        track = builder.tracks[key(small_cache, "vocal", "short")]
        count = track.header.num_frames
        layer = self.layer(track.key, "vocals", num_frames=count, position_frames=5, mixture_gains=(1.0, 1.0))
        plan = ExamplePlan(num_frames=CROP_FRAMES, layers=(layer,))
        example = builder.build(plan)
        assert count < CROP_FRAMES - 5
        assert not example.mixture[..., :5].any()
        assert not example.mixture[..., 5 + count :].any()
        expected = np.abs(track.read_complex("vocals", 0, count)) / example.scale
        np.testing.assert_allclose(example.mixture[..., 5 : 5 + count], expected, rtol=1e-5, atol=1e-7)


class TestScale:
    def test_nothing_exceeds_one_and_nothing_is_below_zero(self, drawer: PlanDrawer, builder: ExampleBuilder) -> None:
        for index in range(100):
            example = builder.build(drawer.draw(1, index))
            for magnitude in (example.mixture, example.instrumental):
                assert magnitude.dtype == np.float32
                assert magnitude.shape == (2, builder.stft.num_bins, CROP_FRAMES)
                assert np.isfinite(magnitude).all()
                assert magnitude.min() >= 0.0
                assert magnitude.max() <= 1.0

    def test_a_loud_track_elsewhere_sets_the_scale_of_a_quiet_crop(
        self, builder: ExampleBuilder, mixing_pools: Pools
    ) -> None:
        drawn = PlanDrawer(config=NO_AUGMENTATION, pools=mixing_pools, crops=CROPS).draw(0, 0)
        loud = replace(drawn, layers=(replace(drawn.layers[0], peak=1e6), *drawn.layers[1:]))
        quiet, loud_example = builder.build(drawn), builder.build(loud)
        assert loud_example.scale == 1e6
        np.testing.assert_allclose(loud_example.mixture * 1e6, quiet.mixture * quiet.scale, rtol=1e-5)

    def test_vocals_count_by_their_peak_times_their_gain(self, builder: ExampleBuilder, mixing_pools: Pools) -> None:
        drawn = PlanDrawer(config=NO_AUGMENTATION, pools=mixing_pools, crops=CROPS).draw(0, 0)
        vocals = replace(drawn.layers[1], peak=1e6, mixture_gains=(-0.25, 0.5))
        example = builder.build(replace(drawn, layers=(drawn.layers[0], vocals)))
        assert example.scale == 5e5

    def test_mixture_and_instrumental_share_their_scale(self, builder: ExampleBuilder, small_cache: Cache) -> None:
        layer = Layer(
            track=key(small_cache, "instrumental", "stereo"), role="instrumental", peak=0.0, offset_frames=10,
            num_frames=CROP_FRAMES, position_frames=0, channels=(0, 1), mixture_gains=(4.0, 4.0),
            instrumental_gains=(1.0, 1.0),
        )  # fmt: skip
        example = builder.build(ExamplePlan(num_frames=CROP_FRAMES, layers=(layer,)))
        assert example.mixture.max() == 1.0
        np.testing.assert_allclose(example.instrumental * 4.0, example.mixture, rtol=1e-5)

    def test_silence_is_zero_and_not_nan(self, builder: ExampleBuilder, small_cache: Cache) -> None:
        layer = Layer(
            track=key(small_cache, "instrumental", "stereo"), role="instrumental", peak=0.0, offset_frames=0,
            num_frames=CROP_FRAMES, position_frames=0, channels=(0, 1),
        )  # fmt: skip
        example = builder.build(ExamplePlan(num_frames=CROP_FRAMES, layers=(layer,)))
        assert not example.mixture.any()

    def test_an_identity_example_has_the_same_mixture_and_instrumental(
        self, builder: ExampleBuilder, pools: Pools
    ) -> None:
        config = replace(EVERYTHING, identity_probability=1.0)
        source = PlanDrawer(config=config, pools=pools, crops=CROPS)
        for index in range(20):
            example = builder.build(source.draw(0, index))
            np.testing.assert_array_equal(example.mixture, example.instrumental)
            assert example.mixture.any()


class TestEqualiser:
    def test_it_is_flat_without_points(self, tiny_stft: StftSpec) -> None:
        assert equaliser_curve((), tiny_stft).tolist() == [1.0] * tiny_stft.num_bins

    def test_it_passes_through_its_points_in_db(self) -> None:
        spec = StftSpec(sample_rate=48000, n_fft=48000, hop_length=1000)  # bin k is k Hz
        points = (1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 4.0, 0.0, 2.0)
        curve_db = 20 * np.log10(equaliser_curve(points, spec))
        for frequency_hz, gain_db in zip(EQUALISER_POINTS_HZ, points, strict=True):
            assert curve_db[int(frequency_hz)] == pytest.approx(gain_db, abs=1e-3)
        assert curve_db[0] == pytest.approx(1.0, abs=1e-5)
        assert curve_db[-1] == pytest.approx(2.0, abs=1e-5)
        # Half way in octaves is half way in dB.
        assert curve_db[round(60 * math.sqrt(2))] == pytest.approx(-0.5, abs=0.05)

    def test_the_bins_of_any_rate_get_the_gains_of_their_frequencies(self, tiny_stft: StftSpec) -> None:
        points = (0.0, 0.0, 0.0, 6.0, 6.0, 0.0, 0.0, 0.0, 0.0)
        curve = equaliser_curve(points, tiny_stft)
        bins_hz = np.arange(tiny_stft.num_bins) * 8000 / 256
        assert curve[(bins_hz > 480) & (bins_hz < 960)] == pytest.approx(10 ** (6 / 20), rel=1e-5)
        assert curve[bins_hz > 1920] == pytest.approx(1.0)


class TestDamage:
    def layers(self, cache: Cache) -> tuple[Layer, ...]:
        music, voice = (
            next(track for track in cache.tracks if (track.header.kind, track.header.name) == (kind, "stereo"))
            for kind in ("instrumental", "vocal")
        )
        return tuple(
            Layer(
                track=track.key, role=track.header.main_role, peak=1.0, offset_frames=3, num_frames=CROP_FRAMES,
                position_frames=0, channels=(0, 1), mixture_gains=(1.0, 1.0), instrumental_gains=gains,
            )
            for track, gains in ((music, (1.0, 1.0)), (voice, (0.0, 0.0)))
        )  # fmt: skip

    def with_changed_row(self, track: CachedTrack, path: Path, frame: int, peak: bytes) -> CachedTrack:
        """Return the track in a file of its own in which these are the bytes of one row's peak."""
        content = bytearray(track.path.read_bytes())
        row_bytes = track.header.row_type.itemsize
        start = track.header.storage[track.header.main_role].offset_bytes
        start += frame * track.header.num_channels * row_bytes
        content[start : start + 4] = peak
        path.write_bytes(content)
        return replace(track, path=path)

    @pytest.mark.parametrize("precision", ["int16", "float32"])
    @pytest.mark.parametrize("place", [0, 1])
    @pytest.mark.parametrize("in_partner", [False, True])
    def test_a_row_that_is_no_audio_is_an_error_that_names_the_examples_tracks(
        self, small_cache: Cache, float_cache: Cache, tmp_path: Path, precision: str, place: int, in_partner: bool
    ) -> None:
        cache = small_cache if precision == "int16" else float_cache
        layers = self.layers(cache)
        tracks = {track.key: track for track in cache.tracks}
        broken = layers[place].track
        tracks[broken] = self.with_changed_row(
            tracks[broken], tmp_path / "x.h5", 3 + CROP_FRAMES - 1, np.float32(np.nan).tobytes()
        )
        builder = ExampleBuilder(tracks=tracks, stft=cache.stft)
        plan = ExamplePlan(num_frames=CROP_FRAMES, layers=layers)
        if in_partner:
            whole = replace(layers[1 - place], instrumental_gains=(1.0, 1.0))
            plan = replace(plan, layers=(whole,), mixup=plan, mixup_weight=0.5)
        names = ", ".join(sorted(layer.track for layer in layers))
        with pytest.raises(CacheError, match=f"^one of {names} holds numbers that are no audio.*--verify"):
            builder.build(plan)

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_a_bit_flipped_in_a_peak_is_an_error_or_puts_nothing_but_magnitudes_into_a_batch(
        self, small_cache: Cache, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        layers = self.layers(small_cache)
        tracks = {track.key: track for track in small_cache.tracks}
        layer = data.draw(st.sampled_from(layers))
        track, frame = tracks[layer.track], 3 + data.draw(st.integers(0, CROP_FRAMES - 1))
        peak = track.read(layer.role, frame, 1)["peak"][0, 0].view(np.uint32)
        flipped = peak ^ np.uint32(1 << data.draw(st.integers(0, 31)))
        path = tmp_path_factory.mktemp("damaged") / "x.h5"
        tracks[track.key] = self.with_changed_row(track, path, frame, flipped.tobytes())
        builder = ExampleBuilder(tracks=tracks, stft=small_cache.stft)
        result = np.full((2, 2, CROP_FRAMES, small_cache.stft.num_bins), np.nan, np.float32)
        try:
            builder.build_into(ExamplePlan(num_frames=CROP_FRAMES, layers=layers), result)
        except CacheError:
            return
        finally:
            path.unlink()
        assert result.min() >= 0.0
        assert result.max() <= 1.0

    def test_a_file_that_was_cut_short_is_an_error_that_names_it(self, small_cache: Cache, tmp_path: Path) -> None:
        layers = self.layers(small_cache)
        tracks = {track.key: track for track in small_cache.tracks}
        track = tracks[layers[0].track]
        (tmp_path / "x.h5").write_bytes(track.path.read_bytes()[:20_000])
        tracks[track.key] = replace(track, path=tmp_path / "x.h5")
        builder = ExampleBuilder(tracks=tracks, stft=small_cache.stft)
        with pytest.raises(CacheError, match=r"x\.h5: expected .* bytes of a track"):
            builder.build(ExamplePlan(num_frames=CROP_FRAMES, layers=layers))


class TestBatches:
    def loaded(self, batches: TrainingBatches, workers: int, method: str | None = None) -> Iterator[torch.Tensor]:
        return iter(
            DataLoader(
                batches, batch_size=None, sampler=[3, 0, 1, 2], num_workers=workers, multiprocessing_context=method
            )
        )

    def test_an_item_holds_its_examples_mixtures_first(self, batches: TrainingBatches, builder: ExampleBuilder) -> None:
        item = batches[2]
        assert item.shape == (2, 3, 2, builder.stft.num_bins, CROP_FRAMES)
        assert item.dtype == torch.float32
        for place in range(3):
            example = builder.build(batches.plan(2 * 3 + place))
            np.testing.assert_array_equal(item[0, place].numpy(), example.mixture)
            np.testing.assert_array_equal(item[1, place].numpy(), example.instrumental)

    def test_spectrograms_are_what_magnitudes_are_taken_of_where_nothing_is_blended(
        self, drawer: PlanDrawer, batches: TrainingBatches, builder: ExampleBuilder
    ) -> None:
        spectrograms = TrainingBatches(drawer, builder, batch_size=3, epoch_examples=6, content="spectrograms")
        for number in range(8):
            item = spectrograms[number]
            assert item.dtype == torch.complex64
            for place in range(3):
                plan = batches.plan(3 * number + place)
                parts = [(plan, plan.mixup_weight)]
                if plan.mixup is None:
                    assert torch.allclose(item[:, place].abs(), batches[number][:, place], rtol=1e-5, atol=1e-6)
                else:
                    parts.append((plan.mixup, 1.0 - plan.mixup_weight))
                # Blended as sound: a sum of signals that are each divided by their largest magnitude.
                expected = sum(
                    share / scaled(builder, part)[1] * np.stack(builder.build_complex(part)) for part, share in parts
                )
                np.testing.assert_allclose(item[:, place].numpy(), expected, rtol=2e-5, atol=2e-6)

    def test_examples_are_numbered_through_the_epochs(self, batches: TrainingBatches, drawer: PlanDrawer) -> None:
        assert [batches.plan(number) for number in (0, 5, 6, 15)] == [
            drawer.draw(epoch, index) for epoch, index in ((0, 0), (0, 5), (1, 0), (2, 3))
        ]

    def test_an_example_depends_on_its_number_alone(self, batches: TrainingBatches, small_cache: Cache) -> None:
        # Another object, other batches before it, another size of batch: the same examples to the bit.
        in_order = torch.cat([batches[number] for number in range(6)], dim=1)
        pools = make_pools(small_cache.tracks, {})
        drawer = PlanDrawer(config=EVERYTHING, pools=pools, crops=CROPS, seed=7)
        other = TrainingBatches(drawer, builder_of(small_cache), batch_size=2, epoch_examples=6)
        for number in random.Random(0).sample(range(9), 9):
            assert torch.equal(other[number], in_order[:, 2 * number : 2 * number + 2])

    def test_crops_have_the_frames_of_their_epoch(self, pools: Pools, builder: ExampleBuilder) -> None:
        crops = CropSchedule(num_frames=40, stages=((1, 8), (2, 56)))
        drawer = PlanDrawer(config=EVERYTHING, pools=pools, crops=crops)
        batches = TrainingBatches(drawer, builder, batch_size=2, epoch_examples=4)
        lengths = [batches[number].shape[-1] for number in range(8)]
        assert lengths == [8, 8, 56, 56, 56, 56, 40, 40]
        for number in (1, 2, 7):
            for place in range(2):
                example = builder.build(batches.plan(2 * number + place))
                np.testing.assert_array_equal(batches[number][0, place].numpy(), example.mixture)

    # A fork of a process that has threads: nothing of what a worker uses is theirs.
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    @pytest.mark.parametrize(("workers", "method"), [(2, "fork"), (1, "forkserver"), (2, "spawn")])
    def test_a_batch_is_the_same_from_any_number_of_workers(
        self, batches: TrainingBatches, workers: int, method: str
    ) -> None:
        for one, other in zip(self.loaded(batches, 0), self.loaded(batches, workers, method), strict=True):
            assert torch.equal(one, other)

    def test_what_goes_to_a_worker_is_small_and_has_no_handles(self, batches: TrainingBatches) -> None:
        before = batches[0]  # for which files were opened
        pickled = pickle.dumps(batches)
        assert len(pickled) < 50_000
        assert torch.equal(pickle.loads(pickled)[0], before)
