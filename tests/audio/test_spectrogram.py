from __future__ import annotations

import tracemalloc
import warnings

import librosa
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.signal import ArraySignal
from vrtool.audio.spectrogram import (
    StftSpec,
    hann_window,
    istft,
    stft,
    stft_blocks,
    stft_segments,
    transform_segment,
)
from vrtool.errors import InputError


def noise(num_channels: int, num_samples: int, seed: int = 0) -> npt.NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, (num_channels, num_samples)).astype(np.float32)


@st.composite
def specs(draw: st.DrawFn) -> StftSpec:
    n_fft = 2 * draw(st.integers(1, 256))
    return StftSpec(n_fft=n_fft, hop_length=draw(st.integers(1, n_fft // 2)))


# Short hops make many frames; the lengths still span many windows.
@settings(max_examples=60, deadline=None)
@given(spec=specs(), num_channels=st.integers(1, 3), num_samples=st.integers(1, 2000))
def test_the_inverse_is_exact_to_1e_6_for_any_length_and_hop(
    spec: StftSpec, num_channels: int, num_samples: int
) -> None:
    samples = noise(num_channels, num_samples)
    restored = istft(stft(samples, spec), spec, num_samples)
    assert restored.dtype == np.float32
    assert restored.shape == samples.shape
    assert np.abs(restored - samples).max() < 1e-6


@pytest.mark.parametrize("num_samples", [1, 1023, 1024, 1025, 200_000])
def test_the_inverse_is_exact_to_1e_6_at_the_default_sizes(num_samples: int) -> None:
    samples = noise(2, num_samples)
    assert np.abs(istft(stft(samples, StftSpec()), StftSpec(), num_samples) - samples).max() < 1e-6


@settings(max_examples=30, deadline=None)
@given(spec=specs(), num_channels=st.integers(1, 3), num_samples=st.integers(1, 2000))
def test_stft_equals_librosas(spec: StftSpec, num_channels: int, num_samples: int) -> None:
    samples = noise(num_channels, num_samples)
    padding = -num_samples % spec.hop_length
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=.* is too large")
        expected = librosa.stft(
            np.pad(samples, ((0, 0), (0, padding))).astype(np.float64),
            n_fft=spec.n_fft,
            hop_length=spec.hop_length,
            pad_mode="constant",
        )
    found = stft(samples, spec)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize(("n_fft", "hop_length"), [(512, 128), (512, 256), (512, 200)])
def test_istft_equals_librosas_for_a_spectrogram_that_no_signal_has(n_fft: int, hop_length: int) -> None:
    spec = StftSpec(n_fft=n_fft, hop_length=hop_length)
    num_samples = 5000
    shape = (2, spec.num_bins, spec.num_frames(num_samples))
    generator = np.random.default_rng(0)
    spectrogram = (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(np.complex64)
    expected = librosa.istft(spectrogram, n_fft=n_fft, hop_length=hop_length, length=num_samples)
    assert np.abs(istft(spectrogram, spec, num_samples) - expected).max() < 1e-6


@pytest.mark.parametrize("block_frames", [1, 7, 32, 1000])
def test_blocks_are_the_stft_piece_by_piece(block_frames: int) -> None:
    samples = noise(2, 20_000)
    spec = StftSpec(n_fft=512, hop_length=128)
    blocks = list(stft_blocks(ArraySignal(samples), spec, block_frames))
    assert all(block.shape[1] == block_frames for block in blocks[:-1])
    joined = np.concatenate(blocks, axis=1)
    assert joined.dtype == np.complex64
    np.testing.assert_array_equal(joined.transpose(0, 2, 1), stft(samples, spec))


@settings(max_examples=60, deadline=None)
@given(spec=specs(), num_samples=st.integers(0, 2000), block_frames=st.integers(1, 40))
def test_segments_have_the_hops_after_the_frames_centres_and_the_windows_around_them(
    spec: StftSpec, num_samples: int, block_frames: int
) -> None:
    samples = noise(2, num_samples)
    hop, half = spec.hop_length, spec.n_fft // 2
    surrounded = np.pad(samples, ((0, 0), (half, 2 * spec.n_fft)))
    hops = []
    frames = 0
    for segment in stft_segments(ArraySignal(samples), spec, block_frames):
        count = min(block_frames, spec.num_frames(num_samples) - frames)
        assert segment.shape == (2, (count - 1) * hop + spec.n_fft)
        np.testing.assert_array_equal(segment, surrounded[:, frames * hop : frames * hop + segment.shape[1]])
        assert transform_segment(segment, spec).shape == (2, count, spec.num_bins)
        hops.append(segment[:, half : half + count * hop])
        frames += count
    assert frames == spec.num_frames(num_samples)
    np.testing.assert_array_equal(np.concatenate(hops, axis=1)[:, :num_samples], samples)


def test_blocks_need_little_memory_however_long_the_signal() -> None:
    class Hour(ArraySignal):
        """The same seconds again and again."""

        @property
        def num_samples(self) -> int:
            return 44100 * 3600

        def read(self, start: int, count: int) -> npt.NDArray[np.float32]:
            return super().read(start % 44100, count)

    hour = Hour(noise(2, 44100 * 5))
    tracemalloc.start()
    num_frames = sum(block.shape[1] for _, block in zip(range(1000), stft_blocks(hour, StftSpec()), strict=False))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_frames == 32_000
    assert peak_bytes < 4e6  # those frames have 525 MB


def test_the_spectrogram_is_a_view_of_time_major_memory() -> None:
    spectrogram = stft(noise(2, 5000), StftSpec(n_fft=512, hop_length=128))
    assert spectrogram.dtype == np.complex64
    assert spectrogram.transpose(0, 2, 1).flags.c_contiguous


def test_a_full_scale_sine_has_a_magnitude_of_a_quarter_of_n_fft() -> None:
    spec = StftSpec(n_fft=1024, hop_length=256)
    sine = np.sin(2 * np.pi * 64 / 1024 * np.arange(8192)).astype(np.float32)
    assert np.abs(stft(sine[None], spec)[0, 64, 8]) == pytest.approx(256, rel=1e-5)


@given(spec=specs(), num_samples=st.integers(0, 10_000))
def test_the_last_frame_is_centred_at_or_less_than_a_hop_behind_the_end(spec: StftSpec, num_samples: int) -> None:
    last_centre = (spec.num_frames(num_samples) - 1) * spec.hop_length
    assert 0 <= last_centre - num_samples < spec.hop_length


def test_no_samples_have_one_silent_frame() -> None:
    spectrogram = stft(noise(2, 0), StftSpec())
    assert spectrogram.shape == (2, 1025, 1)
    assert not spectrogram.any()
    assert istft(spectrogram, StftSpec(), 0).shape == (2, 0)


@pytest.mark.parametrize("n_fft", [2, 16, 2048])
def test_the_window_is_the_periodic_hann(n_fft: int) -> None:
    np.testing.assert_allclose(hann_window(n_fft), librosa.filters.get_window("hann", n_fft), atol=1e-7)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"n_fft": 1023}, "n_fft must be a positive even number of samples, found 1023"),
        ({"n_fft": 0}, "n_fft must be a positive even number of samples, found 0"),
        ({"n_fft": 1024, "hop_length": 513}, r"hop_length must be from 1 to half of n_fft \(512\), found 513"),
        ({"hop_length": 0}, "found 0"),
        ({"sample_rate": 0}, "sample_rate must be a positive number of Hz, found 0"),
    ],
)
def test_an_impossible_spec_is_refused_by_name_and_value(settings_: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StftSpec(**settings_)
