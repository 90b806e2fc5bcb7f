from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vrtool.audio.decoding import BLOCK_SAMPLES
from vrtool.audio.waveform import Waveform, read_audio, resample, write_audio
from vrtool.dataset.sources import open_sources, read_sources
from vrtool.dataset.track import Source
from vrtool.errors import AudioError, InputError

FloatArray = npt.NDArray[np.float32]


def noise(seed: int, num_channels: int = 2, num_samples: int = 8000) -> FloatArray:
    return np.random.default_rng(seed).uniform(-0.4, 0.4, (num_channels, num_samples)).astype(np.float32)


def source(path: Path, samples: FloatArray, gain: float = 1.0, sample_rate: int = 8000) -> Source:
    write_audio(path, Waveform(samples=samples, sample_rate=sample_rate))
    return Source(path=path, gain=gain)


def test_one_source_is_the_file_itself(tmp_path: Path) -> None:
    found = read_sources((source(tmp_path / "a.wav", noise(0)),))
    assert found.sample_rate == 8000
    np.testing.assert_array_equal(found.samples, noise(0))


def test_sources_are_summed_with_their_gains(tmp_path: Path) -> None:
    sources = (
        source(tmp_path / "mixture.wav", noise(0)),
        source(tmp_path / "vocals.wav", noise(1), gain=-1.0),
        source(tmp_path / "other.wav", noise(2), gain=0.25),
    )
    expected = noise(0) - noise(1) + np.float32(0.25) * noise(2)
    np.testing.assert_allclose(read_sources(sources).samples, expected, atol=1e-7)


def test_a_gain_counts_for_a_single_source_too(tmp_path: Path) -> None:
    found = read_sources((source(tmp_path / "a.wav", noise(0), gain=-0.5),))
    np.testing.assert_array_equal(found.samples, -0.5 * noise(0))


def test_mono_counts_for_every_channel(tmp_path: Path) -> None:
    sources = (source(tmp_path / "mono.wav", noise(0, num_channels=1)), source(tmp_path / "stereo.wav", noise(1)))
    np.testing.assert_allclose(read_sources(sources).samples, noise(0, num_channels=1) + noise(1), atol=1e-7)


def test_other_numbers_of_channels_are_refused_by_name(tmp_path: Path) -> None:
    sources = (source(tmp_path / "a.wav", noise(0)), source(tmp_path / "b.wav", noise(1, num_channels=6)))
    with pytest.raises(AudioError, match=r"a\.wav: expected 1 or 6 channels as in b\.wav, found 2"):
        read_sources(sources)


def test_lengths_that_differ_a_little_are_cut_to_the_shortest(tmp_path: Path) -> None:
    sources = (source(tmp_path / "a.wav", noise(0)), source(tmp_path / "b.wav", noise(1, num_samples=4000)))
    assert read_sources(sources).num_samples == 4000


def test_lengths_that_differ_by_more_than_half_a_second_are_refused_by_name(tmp_path: Path) -> None:
    sources = (source(tmp_path / "a.wav", noise(0)), source(tmp_path / "b.wav", noise(1, num_samples=3999)))
    with pytest.raises(AudioError, match=r"b\.wav: expected 1\.00 s of audio as in a\.wav, found 0\.50 s"):
        read_sources(sources)


def test_different_rates_meet_at_the_highest(tmp_path: Path) -> None:
    low = Waveform(samples=noise(0), sample_rate=8000)
    sources = (
        source(tmp_path / "low.wav", noise(0)),
        source(tmp_path / "high.wav", noise(1, num_samples=16000), sample_rate=16000),
    )
    found = read_sources(sources)
    assert found.sample_rate == 16000
    np.testing.assert_allclose(found.samples, resample(low, 16000).samples + noise(1, num_samples=16000), atol=1e-6)


def test_the_rate_asked_for_is_the_rate_of_the_sum(tmp_path: Path) -> None:
    sources = (source(tmp_path / "a.wav", noise(0)), source(tmp_path / "b.wav", noise(1), sample_rate=8000))
    found = read_sources(sources, sample_rate=4000)
    assert (found.sample_rate, found.num_samples) == (4000, 4000)


def test_an_mp3_and_a_flac_of_one_recording_can_be_added(tmp_path: Path) -> None:
    samples = noise(0, num_samples=16000)
    sources = (source(tmp_path / "a.flac", samples), source(tmp_path / "b.mp3", samples, gain=-1.0))
    assert read_sources(sources).num_samples == read_audio(tmp_path / "a.flac").num_samples


def test_a_broken_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.wav").write_bytes(b"no audio")
    sources = (source(tmp_path / "a.wav", noise(0)), Source(path=tmp_path / "b.wav"))
    with pytest.raises(AudioError, match=r"b\.wav: expected wav audio, found what"):
        read_sources(sources)


def test_a_missing_source_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.wav: expected an audio file, found nothing of that name"):
        read_sources((Source(path=tmp_path / "gone.wav"),))


class TestStreaming:
    @pytest.mark.parametrize("lengths", [
        (BLOCK_SAMPLES, BLOCK_SAMPLES), (BLOCK_SAMPLES + 1, BLOCK_SAMPLES), (2 * BLOCK_SAMPLES, 2 * BLOCK_SAMPLES - 1),
        (BLOCK_SAMPLES - 1, 2 * BLOCK_SAMPLES), (3 * BLOCK_SAMPLES + 7, 3 * BLOCK_SAMPLES), (5, 3),
    ])  # fmt: skip
    def test_blocks_are_the_sum_up_to_the_end_of_the_shortest(self, tmp_path: Path, lengths: tuple[int, int]) -> None:
        # At a rate at which half a second is more than the lengths differ by.
        rate = 192_000
        one, other = noise(0, num_samples=lengths[0]), noise(1, num_samples=lengths[1])
        sources = (
            source(tmp_path / "a.wav", one, sample_rate=rate),
            source(tmp_path / "b.wav", other, gain=-0.5, sample_rate=rate),
        )
        shortest = min(lengths)
        with open_sources(sources) as stream:
            assert (stream.sample_rate, stream.num_channels) == (rate, 2)
            blocks = list(stream.blocks)
        assert max(block.shape[1] for block in blocks) <= BLOCK_SAMPLES
        expected = one[:, :shortest] - np.float32(0.5) * other[:, :shortest]
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), expected)

    def test_streams_of_several_rates_are_added_sample_by_sample(self, tmp_path: Path) -> None:
        # What is resampled comes in other blocks than what is not.
        low, high = noise(0, num_samples=100_000), noise(1, num_channels=1, num_samples=200_000)
        sources = (
            source(tmp_path / "low.wav", low),
            source(tmp_path / "high.wav", high, sample_rate=16_000),
        )
        expected = resample(Waveform(samples=low, sample_rate=8000), 16_000).samples + high
        with open_sources(sources) as stream:
            assert (stream.sample_rate, stream.num_channels) == (16_000, 2)
            np.testing.assert_allclose(np.concatenate(list(stream.blocks), axis=1), expected, atol=1e-6)

    def test_every_file_is_shown_as_it_was_decoded(self, tmp_path: Path) -> None:
        one, other = noise(0, num_samples=100_000), noise(1, num_channels=1, num_samples=200_000)
        sources = (
            source(tmp_path / "a.wav", one, gain=-2.0),
            source(tmp_path / "b.wav", other, sample_rate=16_000),
        )
        shown: dict[str, list[FloatArray]] = {"a.wav": [], "b.wav": []}
        with open_sources(
            sources, sample_rate=4000, on_block=lambda source, block: shown[source.path.name].append(block.copy())
        ) as stream:
            assert stream.sample_rate == 4000
            assert sum(block.shape[1] for block in stream.blocks) == 50_000
        np.testing.assert_array_equal(np.concatenate(shown["a.wav"], axis=1), one)
        np.testing.assert_array_equal(np.concatenate(shown["b.wav"], axis=1), other)

    def test_lengths_are_compared_to_the_very_end(self, tmp_path: Path) -> None:
        sources = (
            source(tmp_path / "a.wav", noise(0, num_samples=BLOCK_SAMPLES)),
            source(tmp_path / "b.wav", noise(1, num_samples=2 * BLOCK_SAMPLES)),
        )
        with open_sources(sources) as stream:
            assert next(stream.blocks).shape == (2, BLOCK_SAMPLES)
            with pytest.raises(AudioError, match=r"a\.wav: expected 16\.38 s of audio as in b\.wav, found 8\.19 s"):
                list(stream.blocks)

    @pytest.mark.parametrize("lengths", [(0, 100), (100, 0), (0, 0), (0,)])
    def test_a_file_without_audio_is_refused_by_name(self, tmp_path: Path, lengths: tuple[int, ...]) -> None:
        sources = [
            source(tmp_path / f"{place}.wav", noise(0, num_samples=length)) for place, length in enumerate(lengths)
        ]
        with pytest.raises(AudioError, match=rf"{lengths.index(0)}\.wav"):
            read_sources(sources)
