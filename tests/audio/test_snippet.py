from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vrtool.audio.snippet import mp3_bytes
from vrtool.audio.waveform import FloatArray, Waveform, read_audio


def tone(rate: int, level: float) -> FloatArray:
    samples = level * np.sin(2 * np.pi * 440.0 * np.arange(2 * rate) / rate)
    return np.stack([samples, 0.5 * samples]).astype(np.float32)


@pytest.mark.parametrize(("rate", "stored"), [(8000, 8000), (8192, 11025), (44100, 44100), (96000, 48000)])
def test_a_snippet_is_a_small_mp3_of_the_same_sound_at_a_rate_that_mp3_has(
    rate: int, stored: int, tmp_path: Path
) -> None:
    data = mp3_bytes(Waveform(samples=tone(rate, 0.5), sample_rate=rate))
    (tmp_path / "snippet.mp3").write_bytes(data)
    decoded = read_audio(tmp_path / "snippet.mp3")
    assert (decoded.sample_rate, decoded.num_channels) == (stored, 2)
    assert decoded.duration_seconds == pytest.approx(2.0, abs=0.2)
    middle = decoded.samples[:, stored // 2 : stored]
    assert np.sqrt(2 * np.square(middle).mean(axis=1)) == pytest.approx([0.5, 0.25], rel=0.05)
    assert len(data) < 2.0 * 200_000 / 8


def test_what_is_beyond_full_scale_is_clipped(tmp_path: Path) -> None:
    (tmp_path / "loud.mp3").write_bytes(mp3_bytes(Waveform(samples=tone(8000, 3.0), sample_rate=8000)))
    decoded = read_audio(tmp_path / "loud.mp3").samples[0]
    assert 0.9 < np.abs(decoded).max() < 1.5
