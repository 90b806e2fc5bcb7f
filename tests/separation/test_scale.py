"""What 1.0 stands for: the loudest of late, and never less than the floor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.separation.scale import FLOOR_DB, LoudestOfLate

SPEC = StftSpec(n_fft=16, hop_length=8)
FLOOR = 4 * 10 ** (FLOOR_DB / 20)


@given(st.lists(st.floats(0, 8), min_size=1, max_size=30), st.integers(1, 9), st.integers(0, 30))
def test_a_frame_is_heard_at_the_loudest_of_late_however_frames_come(
    peaks: list[float], num_frames: int, cut: int
) -> None:
    magnitude = np.zeros((2, len(peaks), 9), np.float32)
    magnitude[0, :, 3] = np.array(peaks)
    scale = LoudestOfLate(SPEC, num_frames)
    found = np.concatenate([scale.hear(magnitude[:, :cut]), scale.hear(magnitude[:, cut:])])
    expected = [max(FLOOR, *peaks[max(0, end - num_frames) : end]) for end in range(1, len(peaks) + 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_sine_at_the_floor_fills_the_scale_and_one_below_does_not() -> None:
    time = np.arange(8192)
    spec = StftSpec(n_fft=1024, hop_length=256)
    for level_db, expected in ((FLOOR_DB, 1.0), (FLOOR_DB - 20, 0.1), (FLOOR_DB + 6, 1.0)):
        sine = 10 ** (level_db / 20) * np.sin(2 * np.pi * 64 / 1024 * time).astype(np.float32)
        magnitude = np.abs(stft(sine[None], spec)[:, :, 4:-4].transpose(0, 2, 1))
        heard = magnitude / LoudestOfLate(spec).hear(magnitude)[:, None]
        assert heard.max() == pytest.approx(expected, rel=1e-4)
