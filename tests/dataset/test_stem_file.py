"""Songs whose stems are the audio streams of one file, as MUSDB18 comes."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.library import find_pairs
from vrtool.dataset.sources import read_sources
from vrtool.errors import AudioError
from vrtool.preparation import PreparationReport

RATE = 44100


def noise(seed: int) -> FloatArray:
    samples = np.random.default_rng(seed).standard_normal((2, RATE // 100))
    # Held and smoothed, for codecs drop what is far up.
    held = np.repeat(samples, 100, axis=1)
    smoothed = np.stack([np.convolve(channel, np.hanning(200) / 100, "same") for channel in held])
    return (0.1 * smoothed).astype(np.float32)


DRUMS, BASS, OTHER, VOCALS = (noise(seed) for seed in range(4))
MIXTURE = DRUMS + BASS + OTHER + VOCALS


def write_stem_file(path: Path, streams: tuple[FloatArray, ...] = (MIXTURE, DRUMS, BASS, OTHER, VOCALS)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        added = []
        for _ in streams:
            stream = container.add_stream("aac", rate=RATE, layout="stereo")
            assert isinstance(stream, av.AudioStream)
            stream.bit_rate = 256_000
            added.append(stream)
        for stream, samples in zip(added, streams, strict=True):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE, frame_size=1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
    return path


def error_db(expected: FloatArray, found: FloatArray) -> float:
    length = min(expected.shape[1], found.shape[1])
    difference = expected[:, :length] - found[:, :length]
    return float(10 * np.log10(np.sum(difference**2) / np.sum(expected**2)))


def test_its_streams_are_mixture_instrumental_and_vocals(tmp_path: Path) -> None:
    write_stem_file(tmp_path / "musdb18" / "test" / "Artist - Title.stem.mp4")
    (track,) = find_pairs(tmp_path / "musdb18").tracks
    assert (track.name, track.kind) == ("test/Artist - Title", "pair")
    expected = {"mixture": MIXTURE, "instrumental": DRUMS + BASS + OTHER, "vocals": VOCALS}
    for role, sources in track.sources.items():
        assert error_db(expected[role], read_sources(sources).samples) < -15
    assert error_db(VOCALS, DRUMS) > 0


def test_it_may_lie_beside_pairs_of_other_layouts(tmp_path: Path, write_sound: Callable[..., Path]) -> None:
    write_stem_file(tmp_path / "a.stem.mp4")
    for part in ("mixture", "vocals"):
        write_sound(tmp_path / "b" / f"{part}.wav", MIXTURE, RATE)
    found = find_pairs(tmp_path)
    assert [track.name for track in found.tracks] == ["a", "b"]
    assert found.problems == []


def test_a_file_with_fewer_streams_is_named(tmp_path: Path) -> None:
    write_stem_file(tmp_path / "song.stem.mp4", (MIXTURE, DRUMS))
    (track,) = find_pairs(tmp_path).tracks
    with pytest.raises(AudioError, match=r"song\.stem\.mp4: expected 3 audio streams or more, found 2"):
        read_sources(track.sources["instrumental"])


def test_it_can_be_prepared_and_is_not_prepared_again(
    tmp_path: Path, run_prepare: Callable[..., PreparationReport], tiny_stft: StftSpec
) -> None:
    write_stem_file(tmp_path / "pairs" / "song.stem.mp4")
    first = run_prepare(tmp_path / "cache", pairs=[tmp_path / "pairs"], stft=tiny_stft, align_pairs=False)
    again = run_prepare(tmp_path / "cache", pairs=[tmp_path / "pairs"], stft=tiny_stft, align_pairs=False)
    assert (first.problems, again.problems) == ((), ())
    assert (first.num_prepared, again.num_prepared, again.num_unchanged) == (1, 0, 1)
