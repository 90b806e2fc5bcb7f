"""The latency that is claimed, against when samples appear; and the times of frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.model import Network
from vrtool.separation.live import LiveSeparator
from vrtool.separation.live_latency import FrameTimes, stream_latency


def appearance(separator: LiveSeparator, samples: FloatArray, step: int) -> list[tuple[int, int]]:
    """Return, after each push of `step` samples, how many were pushed and how many of the stem had appeared."""
    counts = []
    num_written = 0
    for start in range(0, samples.shape[1], step):
        num_written += separator.push(samples[:, start : start + step]).shape[1]
        counts.append((start + step, num_written))
    return counts


@pytest.mark.parametrize(("n_fft", "hop_length"), [(32, 16), (32, 8), (34, 10), (32, 1)])
@pytest.mark.parametrize("look_ahead_frames", [0, 1, 7])
def test_a_sample_has_appeared_after_the_latency_and_some_take_all_of_it(
    neighbours: Callable[..., Network], n_fft: int, hop_length: int, look_ahead_frames: int
) -> None:
    spec = StftSpec(sample_rate=8000, n_fft=n_fft, hop_length=hop_length)
    separator = LiveSeparator(neighbours(look_ahead_frames, n_fft=n_fft), spec, device="cpu")
    latency = round(separator.latency.total_seconds * spec.sample_rate)
    assert latency == n_fft + look_ahead_frames * hop_length
    counts = appearance(separator, np.zeros((2, 5 * latency), np.float32), 1)
    # Sample s needs the samples s to s + latency - 1, and so long s - 1 is the last that is known.
    waits = [num_pushed - num_known for num_pushed, num_known in counts]
    assert max(waits) == latency - 1
    assert min(waits[2 * latency :]) == latency - hop_length


@pytest.mark.parametrize("sample_rate", [11025, 6000, 16000])
def test_resampling_delays_no_more_than_is_claimed_nor_much_less(
    neighbours: Callable[..., Network], sample_rate: int
) -> None:
    spec = StftSpec(sample_rate=8000, n_fft=256, hop_length=128)
    separator = LiveSeparator(neighbours(2), spec, sample_rate=sample_rate, device="cpu")
    latency = separator.latency
    assert latency.window_seconds == pytest.approx(256 / 8000)
    assert latency.look_ahead_seconds == pytest.approx(2 * 128 / 8000)
    assert latency.total_seconds == pytest.approx(256 / 8000 + 2 * 128 / 8000 + latency.resampling_seconds)
    counts = appearance(separator, np.zeros((2, 6 * sample_rate), np.float32), 10)
    longest = max(num_pushed - num_known for num_pushed, num_known in counts) / sample_rate
    # The saw teeth of the hop and of the two resamplers need not be at their tips at one time.
    assert 0.7 * latency.total_seconds < longest <= latency.total_seconds


def test_a_click_comes_out_no_later_and_not_much_earlier_than_claimed(neighbours: Callable[..., Network]) -> None:
    spec = StftSpec(sample_rate=8000, n_fft=64, hop_length=32)
    separator = LiveSeparator(neighbours(3, n_fft=64), spec, stem="instrumental", device="cpu")
    latency = 64 + 3 * 32
    mixture = np.zeros((2, 3000), np.float32)
    mixture[:, 1000] = 0.9
    num_written, appeared = 0, None
    for position in range(mixture.shape[1]):
        stem = separator.push(mixture[:, position : position + 1])
        if appeared is None and stem.shape[1] and np.abs(stem[0]).max() > 0.1:
            appeared = position
            # It lies where it did in the mixture.
            assert num_written + int(np.abs(stem[0]).argmax()) == 1000
        num_written += stem.shape[1]
    assert appeared is not None
    assert 1000 + latency - 32 <= appeared <= 1000 + latency


def test_the_latency_of_the_usual_stft_is_46_ms_and_a_hop_for_each_frame_ahead() -> None:
    assert stream_latency(StftSpec(), 0, 44100).total_seconds == pytest.approx(0.04644, abs=1e-5)
    assert stream_latency(StftSpec(), 32, 44100).look_ahead_seconds == pytest.approx(0.74304, abs=1e-5)


def test_frame_times_are_the_mean_the_worst_and_a_quantile_to_2_percent() -> None:
    seconds = np.random.default_rng(0).lognormal(-6, 1, 5000)
    times = FrameTimes()
    for value in seconds:
        times.add(2 * value, 2)
    assert times.num_frames == 10_000
    assert times.mean_seconds == pytest.approx(seconds.mean())
    assert times.worst_seconds == seconds.max()
    for share in (0.05, 0.5, 0.95):
        exact = np.quantile(seconds, share)
        assert exact * 0.99 <= times.quantile_seconds(share) <= exact * 1.03
    assert times.quantile_seconds(1.0) == times.worst_seconds


def test_time_without_a_frame_is_the_next_ones_but_before_the_first_it_is_no_frames() -> None:
    times = FrameTimes()
    for seconds, num_frames in ((0.1, 0), (0.2, 0), (0.3, 3), (0.1, 1), (0.1, 0), (0.1, 1)):
        times.add(seconds, num_frames)
    assert times.total_seconds == pytest.approx(0.9)
    assert times.worst_seconds == pytest.approx(0.2)
    assert times.mean_seconds == pytest.approx(0.6 / 5)
    assert times.frames_at_once == pytest.approx(5 / 3)


def test_no_frames_took_no_time() -> None:
    assert FrameTimes().mean_seconds == FrameTimes().quantile_seconds(0.95) == 0
