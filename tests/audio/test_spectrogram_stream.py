"""Spectrograms made and inverted while their signal is coming."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.formats import FloatArray
from vrtool.audio.overlap_add import OverlapAdd
from vrtool.audio.spectrogram import IstftStream, StftSpec, StftStream, hann_window, istft, stft


def noise(num_channels: int, num_samples: int) -> FloatArray:
    return np.random.default_rng(0).uniform(-1, 1, (num_channels, num_samples)).astype(np.float32)


@st.composite
def specs(draw: st.DrawFn) -> StftSpec:
    n_fft = 2 * draw(st.integers(1, 128))
    return StftSpec(n_fft=n_fft, hop_length=draw(st.integers(1, n_fft // 2)))


@st.composite
def cuts(draw: st.DrawFn, length: int) -> list[tuple[int, int]]:
    """Ranges that follow each other from 0 to `length`, empty ones among them."""
    inner = sorted(draw(st.lists(st.integers(0, length), max_size=12)))
    return list(pairwise([0, *inner, length]))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), spec=specs(), num_channels=st.integers(1, 2), num_samples=st.integers(0, 1500))
def test_frames_of_a_stream_cut_anywhere_are_those_of_the_whole(
    data: st.DataObject, spec: StftSpec, num_channels: int, num_samples: int
) -> None:
    samples = noise(num_channels, num_samples)
    stream = StftStream(spec, num_channels)
    pieces = [stream.push(samples[:, start:end]) for start, end in data.draw(cuts(num_samples))]
    found = np.concatenate([*pieces, stream.finish()], axis=1)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found.transpose(0, 2, 1), stft(samples, spec), rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(spec=specs())
def test_a_frame_is_known_with_the_last_sample_under_its_window_and_not_before(spec: StftSpec) -> None:
    stream = StftStream(spec, 1)
    num_frames = 0
    for num_pushed in range(1, 3 * spec.n_fft):
        num_frames += stream.push(noise(1, 1)).shape[1]
        complete = (num_pushed - spec.n_fft // 2) // spec.hop_length + 1 if num_pushed >= spec.n_fft // 2 else 0
        assert num_frames == complete


@settings(max_examples=150, deadline=None)
@given(data=st.data(), spec=specs(), num_channels=st.integers(1, 2), num_samples=st.integers(0, 1500))
def test_the_inverse_of_a_stream_cut_anywhere_is_that_of_the_whole(
    data: st.DataObject, spec: StftSpec, num_channels: int, num_samples: int
) -> None:
    # A spectrogram that no signal has: only least squares give this very inverse.
    generator = np.random.default_rng(0)
    shape = (num_channels, spec.num_frames(num_samples), spec.num_bins)
    frames = (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(np.complex64)
    stream = IstftStream(spec, num_channels)
    pieces = [stream.push(frames[:, start:end]) for start, end in data.draw(cuts(shape[1]))]
    found = np.concatenate([*pieces, stream.finish()], axis=1)[:, :num_samples]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, istft(frames.transpose(0, 2, 1), spec, num_samples), rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(spec=specs())
def test_samples_are_known_up_to_where_the_next_frame_begins(spec: StftSpec) -> None:
    stream = IstftStream(spec, 1)
    num_samples = 0
    for frame in range(3 * spec.n_fft // spec.hop_length):
        num_samples += stream.push(np.zeros((1, 1, spec.num_bins), np.complex64)).shape[1]
        assert num_samples == max(0, (frame + 1) * spec.hop_length - spec.n_fft // 2)


@pytest.mark.parametrize(("n_fft", "hop_length"), [(16, 8), (16, 4), (16, 5), (16, 1), (2, 1)])
def test_overlap_add_is_the_plain_sum_over_the_plain_sum_of_squared_windows(n_fft: int, hop_length: int) -> None:
    window = hann_window(n_fft)
    frames = np.random.default_rng(0).normal(size=(1, 9, n_fft)).astype(np.float32)
    length = 8 * hop_length + n_fft
    total, squares = np.zeros(length), np.zeros(length)
    for number, frame in enumerate(frames[0]):
        total[number * hop_length :][:n_fft] += frame * window
        squares[number * hop_length :][:n_fft] += window.astype(float) ** 2
    stream = OverlapAdd(window, hop_length, 1)
    found = np.concatenate([stream.push(frames[:, :4]), stream.push(frames[:, 4:]), stream.finish()], axis=1)[0]
    inside = squares > 1e-2
    np.testing.assert_allclose(
        found[:length][inside], (total / np.maximum(squares, 1e-9))[inside], rtol=1e-5, atol=1e-5
    )
