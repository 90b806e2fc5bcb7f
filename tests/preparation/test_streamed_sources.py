"""The sums that tracks are made of: streamed in blocks of any length, they are those of the whole files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.formats import FloatArray
from vrtool.audio.waveform import Waveform, resample, write_audio
from vrtool.dataset import sources as sources_module
from vrtool.dataset.sources import open_sources
from vrtool.dataset.track import Source
from vrtool.errors import AudioError

RATE = 8000
NUM_SAMPLES = 3000


def noise(seed: int, num_channels: int, num_samples: int) -> FloatArray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (num_channels, num_samples)).astype(np.float32)


@pytest.fixture
def use_blocks_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda block_samples: monkeypatch.setattr(sources_module, "BLOCK_SAMPLES", block_samples)


@st.composite
def files(draw: st.DrawFn) -> list[tuple[Waveform, float]]:
    """Some files of one recording, with gains: mono or stereo, of several rates, of nearly one length."""
    count = draw(st.integers(1, 3))
    found = []
    for seed in range(count):
        rate = draw(st.sampled_from([RATE, 6000, 11025, 16000]))
        num_samples = (NUM_SAMPLES - draw(st.integers(0, 200))) * rate // RATE
        samples = noise(seed, draw(st.integers(1, 2)), num_samples)
        found.append((Waveform(samples=samples, sample_rate=rate), draw(st.sampled_from([1.0, -1.0, 0.3]))))
    return found


@settings(max_examples=60, deadline=None)
@given(files=files(), block_samples=st.integers(100, 4000))
def test_the_sum_of_blocks_is_the_sum_of_whole_files(files: list[tuple[Waveform, float]], block_samples: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources_module, "BLOCK_SAMPLES", block_samples)
        sources = []
        for number, (waveform, gain) in enumerate(files):
            write_audio(Path(folder) / f"{number}.wav", waveform)
            sources.append(Source(path=Path(folder) / f"{number}.wav", gain=gain))
        with open_sources(sources, sample_rate=RATE) as stream:
            found = np.concatenate(list(stream.blocks), axis=1)
    wholes = [np.float32(gain) * resample(waveform, RATE).samples for waveform, gain in files]
    num_samples = min(whole.shape[1] for whole in wholes)
    expected = sum(whole[:, :num_samples] for whole in wholes)
    assert (stream.sample_rate, stream.num_channels) == (RATE, max(len(whole) for whole in wholes))
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("block_samples", [100, 1500, 65536])
@pytest.mark.parametrize("rates", [(8000, 8000), (8000, 16000)])
def test_every_sample_of_every_file_is_seen_as_it_was_decoded(
    tmp_path: Path, use_blocks_of: Callable[[int], None], block_samples: int, rates: tuple[int, int]
) -> None:
    use_blocks_of(block_samples)
    decoded = [noise(number, 2, (NUM_SAMPLES - 700 * number) * rate // RATE) for number, rate in enumerate(rates)]
    sources = []
    for number, (samples, rate) in enumerate(zip(decoded, rates, strict=True)):
        write_audio(tmp_path / f"{number}.wav", Waveform(samples=samples, sample_rate=rate))
        sources.append(Source(path=tmp_path / f"{number}.wav", gain=0.5))
    seen: dict[Path, list[FloatArray]] = {source.path: [] for source in sources}
    with open_sources(
        sources, sample_rate=RATE, on_block=lambda source, block: seen[source.path].append(block.copy())
    ) as stream:
        assert sum(block.shape[1] for block in stream.blocks) == NUM_SAMPLES - 700
    for source, samples in zip(sources, decoded, strict=True):
        np.testing.assert_array_equal(np.concatenate(seen[source.path], axis=1), samples)


@pytest.mark.parametrize("longer", [0, 1, 2])
@pytest.mark.parametrize("block_samples", [100, 65536])
def test_files_that_are_too_different_in_length_are_refused_at_the_end(
    tmp_path: Path, use_blocks_of: Callable[[int], None], longer: int, block_samples: int
) -> None:
    use_blocks_of(block_samples)
    sources = []
    for number in range(3):
        samples = noise(number, 1, 9000 if number == longer else 4999)
        write_audio(tmp_path / f"{number}.wav", Waveform(samples=samples, sample_rate=RATE))
        sources.append(Source(path=tmp_path / f"{number}.wav"))

    def read() -> Iterator[FloatArray]:
        with open_sources(sources, sample_rate=RATE) as stream:
            yield from stream.blocks

    with pytest.raises(AudioError, match=rf"\.wav: expected 1\.12 s of audio as in {longer}\.wav, found 0\.62 s"):
        list(read())
