"""Raw PCM to samples and back, against Python's own integers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.formats import FloatArray
from vrtool.audio.pcm import SAMPLE_BYTES, PcmFormat, decode_pcm, decode_pcm_stream, encode_pcm
from vrtool.errors import AudioError

FORMATS: tuple[PcmFormat, ...] = get_args(PcmFormat)


def integers(values: list[int], width: int) -> bytes:
    return b"".join(value.to_bytes(width, "little", signed=True) for value in values)


@pytest.mark.parametrize("pcm", ["s16le", "s24le", "s32le"])
def test_integers_are_shares_of_full_scale(pcm: PcmFormat) -> None:
    width = SAMPLE_BYTES[pcm]
    full_scale = 1 << (8 * width - 1)
    values = [0, full_scale // 2, -full_scale, -full_scale // 4]
    np.testing.assert_array_equal(decode_pcm(integers(values, width), pcm, 1), [[0, 0.5, -1, -0.25]])


@pytest.mark.parametrize("pcm", FORMATS)
def test_channels_are_interleaved(pcm: PcmFormat) -> None:
    samples = np.array([[0.5, 0.25, 0], [-0.5, -0.25, -1]], np.float32)
    data, num_clipped = encode_pcm(samples, pcm)
    assert num_clipped == 0
    width = SAMPLE_BYTES[pcm]
    left, right = decode_pcm(data[:width], pcm, 1), decode_pcm(data[width : 2 * width], pcm, 1)
    assert (left.item(), right.item()) == (0.5, -0.5)
    np.testing.assert_array_equal(decode_pcm(data, pcm, 2), samples)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), pcm=st.sampled_from(["s16le", "s24le"]), num_channels=st.integers(1, 2))
def test_encoding_inverts_decoding_of_every_integer(data: st.DataObject, pcm: PcmFormat, num_channels: int) -> None:
    width = SAMPLE_BYTES[pcm]
    largest = (1 << (8 * width - 1)) - 1
    values = data.draw(st.lists(st.integers(-largest - 1, largest), max_size=50))
    coded = integers(values * num_channels, width)
    assert encode_pcm(decode_pcm(coded, pcm, num_channels), pcm) == (coded, 0)


def test_every_16_bit_sample_comes_back() -> None:
    coded = np.arange(-(1 << 15), 1 << 15).astype("<i2").tobytes()
    assert encode_pcm(decode_pcm(coded, "s16le", 2), "s16le") == (coded, 0)


@given(st.lists(st.floats(width=32), max_size=50))
def test_floats_come_back_bit_for_bit(values: list[float]) -> None:
    coded = struct.pack(f"<{len(values)}f", *values)
    assert encode_pcm(decode_pcm(coded, "f32le", 1), "f32le") == (coded, 0)


@given(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=1, max_size=50))
def test_32_bit_integers_keep_24_bits_and_never_clip(values: list[int]) -> None:
    coded, num_clipped = encode_pcm(decode_pcm(integers(values, 4), "s32le", 1), "s32le")
    assert num_clipped == 0
    found = np.frombuffer(coded, "<i4").astype(np.int64)
    assert (np.abs(found - values) <= np.maximum(np.abs(values) * 2.0**-24, 0) + 128 * (np.array(values) > 2**30)).all()


@pytest.mark.parametrize("pcm", ["s16le", "s24le", "s32le"])
def test_what_is_beyond_full_scale_is_clipped_and_counted(pcm: PcmFormat) -> None:
    data, num_clipped = encode_pcm(np.array([[1.5, 0.5], [-2.0, -1.0]], np.float32), pcm)
    assert num_clipped == 2
    found = decode_pcm(data, pcm, 2)
    np.testing.assert_allclose(found, np.array([[1, 0.5], [-1, -1]]), atol=2.0**-15)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), pcm=st.sampled_from(FORMATS), num_channels=st.integers(1, 2), num_samples=st.integers(0, 40))
def test_a_stream_cut_anywhere_is_that_of_the_whole(
    data: st.DataObject, pcm: PcmFormat, num_channels: int, num_samples: int
) -> None:
    samples: FloatArray = np.random.default_rng(0).uniform(-1, 1, (num_channels, num_samples)).astype(np.float32)
    coded, _ = encode_pcm(samples, pcm)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(coded)), max_size=12)))
    pieces = [coded[start:end] for start, end in zip([0, *cuts], [*cuts, len(coded)], strict=True)]
    found = [np.zeros((num_channels, 0), np.float32), *decode_pcm_stream(pieces, pcm, num_channels)]
    np.testing.assert_array_equal(np.concatenate(found, axis=1), decode_pcm(coded, pcm, num_channels))


def test_whole_sample_frames_are_given_at_once() -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(4):
            taken += 1
            yield bytes(6)

    counts = [(samples.shape[1], taken) for samples in decode_pcm_stream(pieces(), "s16le", 2)]
    assert counts == [(1, 1), (2, 2), (1, 3), (2, 4)]


def test_an_end_within_a_sample_frame_is_said_after_the_whole_ones() -> None:
    stream = decode_pcm_stream([bytes(11)], "s16le", 2)
    assert next(stream).shape == (2, 2)
    with pytest.raises(AudioError, match=r"ends 3 bytes into a sample frame of 4 \(2 x s16le\)"):
        next(stream)
