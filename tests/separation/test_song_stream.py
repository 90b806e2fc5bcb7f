"""Songs as streams: however they come, the stems are those of one computation over whole arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vrtool.audio.spectrogram import StftSpec, istft, stft
from vrtool.audio.waveform import FloatArray, Waveform, resample
from vrtool.errors import AudioError
from vrtool.model import Network
from vrtool.separation.chunking import chunk_weight
from vrtool.separation.scale import FLOOR_DB
from vrtool.separation.separator import Separator
from vrtool.separation.song_stream import SongStream

SPEC = StftSpec(sample_rate=8000, n_fft=128, hop_length=64)
CHUNK_FRAMES = 24


class Restless(nn.Module):
    """A mask that depends on the whole chunk, and on where in it a frame lies."""

    def forward(self, x: Tensor) -> Tensor:
        position = torch.linspace(-1, 1, x.shape[3])
        return torch.sigmoid(8 * x - 4 * x.mean(dim=3, keepdim=True) + x.roll(1, dims=2) + position)


def song(num_channels: int, num_samples: int, seed: int = 0) -> FloatArray:
    """Noise that fades away, below the floor of the scale, and swells again."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal((num_channels, num_samples)) * np.abs(np.linspace(-0.8, 3, num_samples))
    return samples.astype(np.float32)


def one_shot_vocals(network: nn.Module, samples: FloatArray, sample_rate: int, overlap: float) -> FloatArray:
    """Return the vocals computed over whole arrays, chunk by chunk, everything else at once and in float64."""
    at_network = resample(Waveform(samples=samples, sample_rate=sample_rate), SPEC.sample_rate).samples
    spectrogram = stft(at_network, SPEC)
    magnitude = np.abs(spectrogram)
    num_frames = magnitude.shape[2]
    count = min(num_frames, CHUNK_FRAMES)
    starts = [*range(0, num_frames - count, round(CHUNK_FRAMES * (1 - overlap))), num_frames - count]
    floor = SPEC.n_fft / 4 * 10 ** (FLOOR_DB / 20)
    summed, weights = np.zeros(magnitude.shape), np.zeros(num_frames)
    for start in starts:
        chunk = slice(start, start + count)
        scale = max(floor, float(magnitude[:, :, chunk].max()))
        with torch.inference_mode():
            mask = network(torch.from_numpy(magnitude[None, :, :, chunk] / np.float32(scale)))[0].numpy()
        weight = chunk_weight(count).astype(float)
        summed[:, :, chunk] += weight * mask
        weights[chunk] += weight
    vocals = istft((spectrogram * (1 - summed / weights)).astype(np.complex64), SPEC, at_network.shape[1])
    back = resample(Waveform(samples=vocals, sample_rate=SPEC.sample_rate), sample_rate).samples
    return back[:, : samples.shape[1]]


def streamed(stream: SongStream, samples: FloatArray, edges: list[int]) -> tuple[FloatArray, FloatArray]:
    """Return vocals and instrumental of a song cut at the edges."""
    ends = [0, *sorted(edge for edge in edges if edge < samples.shape[1]), samples.shape[1]]
    pieces = [stream.push(samples[:, start:end]) for start, end in itertools.pairwise(ends)]
    pieces.append(stream.finish())
    return (
        np.concatenate([piece.vocals.samples for piece in pieces], axis=1),
        np.concatenate([piece.instrumental.samples for piece in pieces], axis=1),
    )


@settings(max_examples=40, deadline=None)
@given(
    num_samples=st.sampled_from([1, 2, 63, 64, 65, 128, 1471, 1472, 1473]) | st.integers(1, 9000),
    num_channels=st.just(2),
    sample_rate=st.sampled_from([8000, 11025, 6000]),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
    batch_size=st.sampled_from([1, 3]),
    edges=st.lists(st.integers(0, 9000), max_size=6),
)
def test_stems_equal_those_of_the_one_shot_computation(
    num_samples: int, num_channels: int, sample_rate: int, overlap: float, batch_size: int, edges: list[int]
) -> None:
    samples = song(num_channels, num_samples)
    network = Restless()
    separator = Separator(
        network, SPEC, device="cpu", chunk_frames=CHUNK_FRAMES, overlap=overlap, batch_size=batch_size
    )
    stream = separator.open_stream(sample_rate=sample_rate, num_channels=num_channels)
    vocals, instrumental = streamed(stream, samples, edges)
    expected = one_shot_vocals(network, samples, sample_rate, overlap)
    np.testing.assert_allclose(vocals, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(vocals + instrumental, samples, rtol=0, atol=2e-6)


@settings(max_examples=20, deadline=None)
@given(num_samples=st.integers(1, 6000), edges=st.lists(st.integers(0, 6000), max_size=20))
def test_a_network_in_one_pass_does_not_care_how_its_song_is_cut(
    neighbours: Callable[..., Network], num_samples: int, edges: list[int]
) -> None:
    separator = Separator(neighbours(3, n_fft=128), SPEC, device="cpu")
    samples = song(2, num_samples)
    whole = separator.separate(Waveform(samples=samples, sample_rate=8000)).vocals.samples
    stream = separator.open_stream(sample_rate=8000, num_channels=2)
    np.testing.assert_allclose(streamed(stream, samples, edges)[0], whole, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_stems_of_early_blocks_come_before_later_blocks_are_asked_for() -> None:
    num_asked = 0

    def blocks() -> Iterator[FloatArray]:
        nonlocal num_asked
        for start in range(0, 80_000, 1000):
            num_asked += 1
            yield song(2, 80_000)[:, start : start + 1000]

    separator = Separator(Restless(), SPEC, device="cpu", chunk_frames=CHUNK_FRAMES)
    stems = separator.separate_blocks(blocks(), 8000)
    num_samples = next(stems).vocals.num_samples
    # Two chunks that overlap by an eighth are 45 frames of 64 samples.
    assert num_asked == 3
    assert num_samples > 0
    num_samples += sum(piece.vocals.num_samples for piece in stems)
    assert num_samples == 80_000


def test_blocks_may_be_empty_but_a_song_may_not() -> None:
    separator = Separator(Restless(), SPEC, device="cpu")
    empty = np.zeros((1, 0), np.float32)
    (stems,) = separator.separate_blocks([empty, song(1, 1), empty], 8000)
    assert stems.vocals.num_samples == 1
    for nothing in ([], [empty]):
        with pytest.raises(AudioError, match="at least one sample"):
            list(separator.separate_blocks(nothing, 8000))


def test_memory_that_was_given_may_be_used_again() -> None:
    separator = Separator(Restless(), SPEC, device="cpu", chunk_frames=CHUNK_FRAMES)
    samples = song(2, 4000)
    expected = separator.separate(Waveform(samples=samples, sample_rate=8000)).instrumental.samples
    stream = separator.open_stream(sample_rate=8000, num_channels=2)
    block = np.empty((2, 500), np.float32)
    found = []
    for start in range(0, 4000, 500):
        block[:] = samples[:, start : start + 500]
        found.append(stream.push(block).instrumental.samples)
        block[:] = np.nan
    found.append(stream.finish().instrumental.samples)
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=0, atol=1e-6)


def test_a_song_of_six_channels_is_refused() -> None:
    with pytest.raises(AudioError, match="found 6"):
        Separator(Restless(), SPEC, device="cpu").open_stream(sample_rate=8000, num_channels=6)
