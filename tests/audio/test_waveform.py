from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.waveform import Waveform, read_audio, resample, write_audio


def sine(sample_rate: int, num_samples: int, num_channels: int = 1) -> Waveform:
    """One tone per channel, 1000 Hz and its multiples."""
    seconds = np.arange(num_samples) / sample_rate
    tones = [0.5 * np.sin(2 * np.pi * 1000 * (channel + 1) * seconds) for channel in range(num_channels)]
    return Waveform(samples=np.stack(tones).astype(np.float32), sample_rate=sample_rate)


def test_a_waveform_knows_its_channels_samples_and_seconds() -> None:
    waveform = sine(8000, 12000, num_channels=2)
    assert (waveform.num_channels, waveform.num_samples, waveform.duration_seconds) == (2, 12000, 1.5)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    waveform = sine(44100, 70_000, num_channels=2)
    assert write_audio(tmp_path / "song.wav", waveform) == 0
    found = read_audio(tmp_path / "song.wav")
    assert found.sample_rate == 44100
    np.testing.assert_array_equal(found.samples, waveform.samples)


def test_a_waveform_is_written_as_asked(tmp_path: Path) -> None:
    write_audio(tmp_path / "song.flac", sine(44100, 100), subtype="16")
    assert soundfile.info(tmp_path / "song.flac").subtype == "PCM_16"


def test_resampling_to_the_same_rate_is_the_same_object() -> None:
    waveform = sine(44100, 100)
    assert resample(waveform, 44100) is waveform


@settings(max_examples=100, deadline=None)
@given(
    num_samples=st.integers(0, 3000),
    rates=st.tuples(*2 * [st.sampled_from([8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000])]),
    num_channels=st.integers(1, 3),
)
def test_resampling_keeps_every_begun_sample(num_samples: int, rates: tuple[int, int], num_channels: int) -> None:
    before, after = rates
    waveform = Waveform(samples=np.ones((num_channels, num_samples), np.float32), sample_rate=before)
    found = resample(waveform, after)
    assert found.sample_rate == after
    assert found.samples.dtype == np.float32
    assert found.samples.shape == (num_channels, -(-num_samples * after // before))


@pytest.mark.parametrize(("before", "after"), [(44100, 48000), (48000, 44100), (16000, 44100), (96000, 8000)])
def test_resampling_keeps_a_tone_to_within_1e_6(before: int, after: int) -> None:
    found = resample(sine(before, before, num_channels=2), after)
    expected = sine(after, after, num_channels=2)
    # The edges ring, as the tone begins and ends abruptly.
    inside = slice(after // 4, -after // 4)
    assert np.abs(found.samples - expected.samples)[:, inside].max() < 1e-6


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    seconds = np.arange(44100) / 44100
    tone = np.sin(2 * np.pi * 15000 * seconds)[None].astype(np.float32)
    found = resample(Waveform(samples=tone, sample_rate=44100), 22050)
    assert np.abs(found.samples[:, 5000:-5000]).max() < 1e-6
