from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.drawing.picture import NUM_ROWS, frequency_share, palette, png, spectrogram_levels

SPEC = StftSpec(sample_rate=16000, n_fft=1024, hop_length=512)


def test_a_png_holds_the_colours_of_its_levels() -> None:
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    data = png(levels)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, place = {}, 8
    while place < len(data):
        (size,) = struct.unpack_from(">I", data, place)
        name, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        assert struct.unpack_from(">I", data, place + 8 + size) == (zlib.crc32(name + body),)
        chunks[name], place = body, place + 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (4, 3, 8, 3, 0, 0, 0)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(3, 5)
    assert not rows[:, 0].any()
    assert (rows[:, 1:] == levels).all()
    assert (np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(256, 3) == palette()).all()


@pytest.mark.parametrize("frequency_hz", [100.0, 440.0, 3000.0, 7000.0])
def test_a_tone_is_brightest_at_its_own_height(frequency_hz: float) -> None:
    time = np.arange(SPEC.sample_rate) / SPEC.sample_rate
    tone = np.sin(2 * np.pi * frequency_hz * time).astype(np.float32)
    spectrogram = stft(np.stack([tone, tone]), SPEC)
    levels = spectrogram_levels(spectrogram, SPEC, float(np.abs(spectrogram).max()))
    assert levels.shape == (NUM_ROWS, spectrogram.shape[2])
    column = levels[:, 10].astype(int)
    brightest = np.flatnonzero(column == column.max())
    height = 1.0 - (brightest.mean() + 0.5) / NUM_ROWS
    # Where bins lie far apart, a tone is as tall as a bin.
    assert height == pytest.approx(frequency_share(frequency_hz, SPEC), abs=0.04)


def test_silence_is_black_and_levels_are_relative_to_the_loudest_given() -> None:
    silence = np.zeros((2, SPEC.num_bins, 3), np.complex64)
    assert not spectrogram_levels(silence, SPEC, 0.0).any()
    flat = np.full((2, SPEC.num_bins, 3), 0.01, np.complex64)
    # 40 of the 80 dB below the loudest.
    assert set(spectrogram_levels(flat, SPEC, 1.0).ravel()) <= {127, 128}


def test_brighter_levels_have_lighter_colours() -> None:
    lightness = palette().astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) > -0.5).all()
    assert lightness[-1] - lightness[0] > 200
