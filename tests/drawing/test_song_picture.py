"""Pictures of whole songs: their columns where they can be read, the file as far as it can be without eyes."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from vrtool.audio.formats import FloatArray
from vrtool.audio.signal import ArraySignal
from vrtool.audio.spectrogram import StftSpec, stft, stft_blocks
from vrtool.drawing.song_picture import MAX_COLUMNS, SONG_ROWS, SongPicture, time_label, time_marks
from vrtool.errors import InputError

SPEC = StftSpec(sample_rate=8000, n_fft=256, hop_length=128)


def tone(frequency_hz: float, seconds: float = 1.0) -> FloatArray:
    time = np.arange(round(seconds * SPEC.sample_rate)) / SPEC.sample_rate
    return np.sin(2 * np.pi * frequency_hz * time).astype(np.float32)[None]


def magnitudes(num_frames: int, level: float = 0.0) -> FloatArray:
    return np.full((1, num_frames, SPEC.num_bins), level, np.float32)


def size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", data[16:24])


def pushed(picture: SongPicture, samples: FloatArray, block_frames: int) -> SongPicture:
    for block in stft_blocks(ArraySignal(samples), SPEC, block_frames):
        magnitude: FloatArray = np.abs(block)
        picture.push(block, magnitude, block)
    return picture


def test_a_song_is_one_png_whose_size_does_not_depend_on_its_length(tmp_path: Path) -> None:
    sizes = set()
    for seconds in (0.01, 60.0):
        path = tmp_path / f"{seconds}.png"
        pushed(SongPicture("song", SPEC), tone(500, seconds), 50).finish(path)
        sizes.add(size(path))
    assert sizes == {(2100, 1400)}


@pytest.mark.parametrize("block_frames", [1, 7, 1000])
def test_however_a_song_is_cut_into_pieces_the_picture_is_the_same(block_frames: int) -> None:
    samples = np.random.default_rng(0).standard_normal((2, 40 * 8000)).astype(np.float32)
    expected = pushed(SongPicture("song", SPEC), samples, 32)
    found = pushed(SongPicture("song", SPEC), samples, block_frames)
    assert expected._frames_per_column == found._frames_per_column == 2
    np.testing.assert_allclose(found._columns, expected._columns, rtol=1e-5)


def test_a_long_songs_loud_moments_stay_in_its_columns() -> None:
    picture = SongPicture("song", SPEC)
    loud = {5, 2001, 7_999, 10_006}
    for start in range(0, 10_007, 13):
        frames = magnitudes(min(13, 10_007 - start), 0.1)
        for place in loud:
            if start <= place < start + 13:
                frames[:, place - start] = 1.0
        picture.push(frames, frames, frames)
    # 10,007 frames take 2,000 columns of 8: 1,251 are begun.
    columns = picture._columns[0]
    assert picture._frames_per_column == 8
    assert columns.shape == (MAX_COLUMNS, SONG_ROWS)
    assert set(np.flatnonzero(columns[:, 0] == 1.0)) == {place // 8 for place in loud}
    assert np.flatnonzero(columns[:, 0])[-1] == 1250


def test_each_signal_has_its_own_columns() -> None:
    picture = SongPicture("song", SPEC)
    picture.push(magnitudes(3, 1.0), magnitudes(3, 0.5), magnitudes(3, 0.25))
    assert [columns[:3].max() for columns in picture._columns] == [1.0, 0.5, 0.25]


def test_a_tone_is_in_the_row_of_its_frequency() -> None:
    picture = SongPicture("song", SPEC)
    spectrogram = stft(tone(1000), SPEC).transpose(0, 2, 1)
    picture.push(spectrogram, spectrogram, spectrogram)
    brightest = np.flatnonzero(picture._columns[0, 20] == picture._columns[0, 20].max())
    # From 60 to 4,000 Hz in 320 rows.
    assert brightest.mean() == pytest.approx(SONG_ROWS * np.log(1000 / 60) / np.log(4000 / 60), abs=3)


@pytest.mark.parametrize("title", ["A$AP $ong_{x <&>", "夜に駆ける" * 100, "", "\u2900 \U0010fffd", "a\tb\nc\udcff"])
def test_a_song_may_be_called_anything_and_no_letter_is_a_box(title: str, tmp_path: Path) -> None:
    # matplotlib warns of boxes, and warnings are errors here.
    pushed(SongPicture(title, SPEC), tone(500), 50).finish(tmp_path / "song.png")
    assert size(tmp_path / "song.png") == (2100, 1400)


def test_silence_can_be_drawn(tmp_path: Path) -> None:
    picture = SongPicture("silence", SPEC)
    picture.push(magnitudes(5), magnitudes(5), magnitudes(5))
    picture.push(magnitudes(0), magnitudes(0), magnitudes(0))
    picture.finish(tmp_path / "song.png")
    assert size(tmp_path / "song.png") == (2100, 1400)


def test_without_matplotlib_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"vrtool\[pictures\]"):
        SongPicture("song", SPEC).finish(tmp_path / "song.png")
    assert list(tmp_path.iterdir()) == []


def test_marks_of_time_are_round_and_few() -> None:
    assert time_marks(0.0, 200.0) == [0, 15, 30, 45, 60, 75, 90, 105, 120, 135, 150, 165, 180, 195]
    assert time_marks(10.0, 30.0) == [10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30]
    for last in (0.05, 1.0, 3600.0, 36_000.0, 1e7):
        assert 1 <= len(time_marks(0.0, last)) <= 16


@pytest.mark.parametrize(("seconds", "label"), [(0.5, "0.5"), (7, "0:07"), (200, "3:20"), (3720, "1:02:00")])
def test_marks_of_time_are_written_as_on_a_clock(seconds: float, label: str) -> None:
    assert time_label(seconds) == label
