"""Tags: what one format says of a song, the others say too."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from vrtool.audio.decoding import probe_audio
from vrtool.audio.encoding import open_writer
from vrtool.audio.output_formats import OUTPUT_FORMATS
from vrtool.audio.tags import id3_tag, read_tags
from vrtool.audio.waveform import read_audio

TAGS = {
    "title": "Überall – 夜",
    "artist": "Ænima & Söhne",
    "album": "Ein Album",
    "date": "2001",
    "track": "7",
    "genre": "Pop",
    "comment": "so; 'was'",
}


def write(path: Path, tags: dict[str, str], *, num_samples: int = 30_000) -> Path:
    output = OUTPUT_FORMATS[path.suffix[1:]]
    subtype = next(iter(output.subtypes), None)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2, num_samples)).astype(np.float32)
    with open_writer(
        path, path, output, subtype, sample_rate=44100, num_channels=2, num_samples=num_samples, tags=tags
    ) as writer:
        writer.write(samples)
    return path


@pytest.mark.parametrize("name", sorted(OUTPUT_FORMATS))
def test_tags_that_are_written_are_read_back_letter_by_letter(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"song.{name}", TAGS)
    found = read_tags(path)
    assert {word: found.get(word) for word in TAGS} == TAGS
    assert probe_audio(path).num_samples == 30_000
    assert read_audio(path).num_samples == 30_000


def test_mp3_has_room_for_more_words(tmp_path: Path) -> None:
    tags = {"album_artist": "Ä", "composer": "É", "disc": "2", "copyright": "©"}
    found = read_tags(write(tmp_path / "song.mp3", tags))
    assert {word: found.get(word) for word in tags} == tags


def test_a_long_text_does_not_break_the_audio_after_it(tmp_path: Path) -> None:
    long = "ÿ" * 5000
    path = write(tmp_path / "song.mp3", {"comment": long})
    assert read_tags(path)["comment"] == long
    assert read_audio(path).num_samples == 30_000


def test_without_tags_there_is_no_header() -> None:
    assert id3_tag({}) == b""
    assert id3_tag({"nonsense": "x"}) == b""


@pytest.mark.parametrize("suffix", ["m4a", "opus", "flac"])
def test_tags_of_ffmpegs_files_are_read_under_one_set_of_words(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"song.{suffix}"
    codec = {"m4a": "aac", "opus": "libopus", "flac": "flac"}[suffix]
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Überall"
        container.metadata["track"] = "3"
        stream = container.add_stream(codec, rate=48000)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame(
            format={"m4a": "fltp", "opus": "flt", "flac": "s16"}[suffix], layout="stereo", samples=960
        )
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = read_tags(path)
    assert (found["title"], found["track"]) == ("Überall", "3")


def test_a_file_that_is_no_audio_has_no_tags(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(b"nothing")
    assert read_tags(tmp_path / "song.mp3") == {}
