"""Songs separated while they come, with a network whose masks are known beforehand."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.errors import AudioError, InputError, JobError
from vrtool.model import ModelConfig, Network, build_model
from vrtool.separation.live import LiveSeparator, Stem, separate_stream
from vrtool.separation.separator import Separator

SPEC = StftSpec(sample_rate=8000, n_fft=256, hop_length=128)

Networks = Callable[..., Network]


def noise(num_channels: int, num_samples: int, level: float = 0.3) -> FloatArray:
    samples = np.random.default_rng(0).uniform(-level, level, (num_channels, num_samples))
    return samples.astype(np.float32)


def live_stem(separator: LiveSeparator, samples: FloatArray, cuts: list[int] | None = None) -> FloatArray:
    edges = [0, *sorted(cuts or []), samples.shape[1]]
    pieces = [separator.push(samples[:, start:end]) for start, end in pairwise(edges)]
    return np.concatenate([*pieces, separator.finish()], axis=1)


@settings(max_examples=40, deadline=None)
@given(
    num_samples=st.sampled_from([0, 1, 2, 127, 128, 129, 255, 256, 1000]) | st.integers(0, 6000),
    num_channels=st.integers(1, 2),
    network_channels=st.integers(1, 2),
    look_ahead_frames=st.sampled_from([0, 1, 5]),
    sample_rate=st.sampled_from([8000, 11025, 6000]),
    cuts=st.lists(st.integers(0, 6000), max_size=5),
)
def test_stems_are_as_long_as_the_mixture_and_sum_to_it(
    neighbours: Networks,
    num_samples: int,
    num_channels: int,
    network_channels: int,
    look_ahead_frames: int,
    sample_rate: int,
    cuts: list[int],
) -> None:
    mixture = noise(num_channels, num_samples)
    network = neighbours(look_ahead_frames, num_channels=network_channels)

    def separated(stem: Stem) -> FloatArray:
        separator = LiveSeparator(network, SPEC, stem=stem, num_channels=num_channels, sample_rate=sample_rate)
        return live_stem(separator, mixture, [min(cut, num_samples) for cut in cuts])

    vocals, instrumental = separated("vocals"), separated("instrumental")
    assert vocals.dtype == instrumental.dtype == np.float32
    assert vocals.shape == instrumental.shape == mixture.shape
    np.testing.assert_allclose(vocals + instrumental, mixture, rtol=0, atol=1e-6)


@pytest.mark.parametrize("look_ahead_frames", [0, 3])
@pytest.mark.parametrize("sample_rate", [8000, 11025])
def test_the_stems_are_those_of_the_whole_song(neighbours: Networks, look_ahead_frames: int, sample_rate: int) -> None:
    network = neighbours(look_ahead_frames)
    mixture = noise(2, 9000, 2.0) * np.linspace(0, 1, 9000, dtype=np.float32)
    whole = Separator(network, SPEC, device="cpu")
    stems = whole.separate(Waveform(samples=mixture, sample_rate=sample_rate))
    pairs: list[tuple[Stem, FloatArray]] = [
        ("vocals", stems.vocals.samples),
        ("instrumental", stems.instrumental.samples),
    ]
    for stem, expected in pairs:
        separator = LiveSeparator(network, SPEC, stem=stem, sample_rate=sample_rate, device="cpu")
        found = live_stem(separator, mixture, list(range(0, 9000, 100)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(stems.vocals.samples).max() > 0.05


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 5000), max_size=30))
def test_how_the_stream_is_cut_changes_nothing(neighbours: Networks, cuts: list[int]) -> None:
    mixture = noise(2, 5000) * np.linspace(0, 4, 5000, dtype=np.float32)
    whole = live_stem(LiveSeparator(neighbours(2), SPEC, device="cpu"), mixture)
    found = live_stem(LiveSeparator(neighbours(2), SPEC, device="cpu"), mixture, cuts)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sample_rate", [8000, 11025])
def test_stems_lie_where_the_mixture_does(neighbours: Networks, sample_rate: int) -> None:
    class Vocals(type(neighbours(0))):  # type: ignore[misc]
        """Takes everything for vocals."""

        def mask_within(self, magnitude: Tensor) -> Tensor:
            return torch.zeros_like(magnitude[..., 1:])

    mixture = np.zeros((1, 6000), np.float32)
    mixture[0, 3000:3200] = np.hanning(200)
    network = Vocals(0, ModelConfig(n_fft=256, num_channels=1))
    separator = LiveSeparator(network, SPEC, stem="vocals", num_channels=1, sample_rate=sample_rate, device="cpu")
    np.testing.assert_allclose(live_stem(separator, mixture, [100, 2000]), mixture, rtol=0, atol=1e-3)


def test_a_long_push_reaches_the_network_in_short_pieces(neighbours: Networks) -> None:
    network = neighbours(1)
    separator = LiveSeparator(network, SPEC, device="cpu")
    separator.push(noise(2, 100_000))
    assert max(network.num_pushes) <= 32  # type: ignore[arg-type]


def test_frames_are_computed_as_soon_as_they_are_there(neighbours: Networks) -> None:
    separator = LiveSeparator(neighbours(0), SPEC, device="cpu")
    for num_hops in range(1, 50):
        separator.push(noise(2, 128))
        assert separator.times.num_frames == num_hops


def test_hours_take_no_more_memory_than_seconds(neighbours: Networks) -> None:
    spec = StftSpec(sample_rate=4000, n_fft=1024, hop_length=512)
    separator = LiveSeparator(neighbours(1, n_fft=1024, num_channels=1), spec, num_channels=1, device="cpu")
    block = noise(1, 512 * 32)

    def bytes_after(num_blocks: int) -> int:
        for _ in range(num_blocks):
            separator.push(block)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early = bytes_after(10)
        late = bytes_after(900)
    finally:
        tracemalloc.stop()
    assert separator.times.num_frames * 512 / 4000 > 3600
    assert late - early < 200_000  # a number kept for each frame would have a megabyte


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_sample_that_is_no_sound_is_refused_by_its_position_and_nothing_is_taken(
    neighbours: Networks, value: float
) -> None:
    mixture = noise(2, 4000)
    broken = mixture.copy()
    broken[1, 3210] = value
    separator = LiveSeparator(neighbours(1), SPEC, device="cpu")
    begin = separator.push(mixture[:, :2000])
    with pytest.raises(AudioError, match=r"sample 3210 \(0\.401 s\) is .*(nan|inf|1e\+30)"):
        separator.push(broken[:, 2000:])
    found = np.concatenate([begin, separator.push(mixture[:, 2000:]), separator.finish()], axis=1)
    expected = live_stem(LiveSeparator(neighbours(1), SPEC, device="cpu"), mixture)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def broken_at(position: int) -> Iterator[FloatArray]:
    samples = noise(2, 4000)
    samples[:, position] = np.nan
    yield samples[:, :2000]
    yield samples[:, 2000:]


def failing() -> Iterator[FloatArray]:
    yield noise(2, 4000)[:, :3210]
    raise AudioError("cut short")


def interrupted() -> Iterator[FloatArray]:
    yield noise(2, 4000)[:, :3210]
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("source", "error"), [(broken_at(3210), AudioError), (failing(), AudioError), (interrupted(), KeyboardInterrupt)]
)
def test_a_stream_that_ends_badly_is_finished_before_it_is_said(
    neighbours: Networks, source: Iterator[FloatArray], error: type[BaseException]
) -> None:
    found: list[FloatArray] = []
    with pytest.raises(error):
        found.extend(separate_stream(LiveSeparator(neighbours(1), SPEC, device="cpu"), source))
    expected = live_stem(LiveSeparator(neighbours(1), SPEC, device="cpu"), noise(2, 4000)[:, :3210])
    np.testing.assert_allclose(np.concatenate(found, axis=1)[:, :2500], expected[:, :2500], rtol=0, atol=1e-6)
    assert sum(piece.shape[1] for piece in found) == 3210


def test_masks_that_are_not_numbers_fail_the_job(neighbours: Networks) -> None:
    class Broken(type(neighbours(0))):  # type: ignore[misc]
        def mask_within(self, magnitude: Tensor) -> Tensor:
            return torch.full_like(magnitude[..., 1:], torch.nan)

    with pytest.raises(JobError, match="its weights are damaged"):
        LiveSeparator(Broken(0, ModelConfig(n_fft=256)), SPEC, device="cpu")


def test_a_network_that_looks_at_all_frames_is_refused_with_the_name_of_one_that_does_not() -> None:
    config = ModelConfig(n_fft=256, channels=1, num_bands=4, feedforward_dim=8, num_encoders=0, num_decoders=0)
    with pytest.raises(InputError, match=r"cannot be streamed.*autoregressive"):
        LiveSeparator(build_model(config), SPEC, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"), [({"num_channels": 3}, "found 3"), ({"sample_rate": 100}, "found 100")]
)
def test_impossible_streams_are_refused(neighbours: Networks, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LiveSeparator(neighbours(0), SPEC, device="cpu", **options)  # type: ignore[arg-type]
