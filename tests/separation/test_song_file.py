"""One song from file to files: what it keeps, what it says, and that it is on its way from the first second."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from vrtool.audio.decoding import probe_audio
from vrtool.audio.encoding import encode
from vrtool.audio.formats import AudioInfo, FloatArray, Subtype
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.tags import read_tags
from vrtool.audio.waveform import read_audio
from vrtool.errors import AudioError, InputError
from vrtool.separation.separator import Separator
from vrtool.separation.song_file import ClipMode, StemName

SPEC = StftSpec(sample_rate=8000, n_fft=256, hop_length=128)


class Part(nn.Module):
    """Gives a share of everything to the instrumental."""

    def __init__(self, share: float = 0.3) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.share)


@pytest.fixture
def separator() -> Separator:
    return Separator(Part(), SPEC, device="cpu", chunk_frames=32)


def noise(num_samples: int, num_channels: int = 2, level: float = 0.4) -> FloatArray:
    return np.random.default_rng(0).uniform(-level, level, (num_channels, num_samples)).astype(np.float32)


def write_with_ffmpeg(path: Path, codec: str, sample_rate: int, sample_format: str) -> Path:
    samples = noise(20_000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sample_rate)
        assert isinstance(stream, av.AudioStream)
        stream.format = sample_format
        resampler = av.AudioResampler(format=sample_format, layout="stereo", rate=sample_rate)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate = sample_rate
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return path


SOURCES: list[tuple[str, str, int, Subtype]] = [
    ("wav", "PCM_U8", 8000, "8"),
    ("wav", "PCM_16", 8000, "16"),
    ("wav", "PCM_16", 192_000, "16"),
    ("wav", "PCM_24", 44_100, "24"),
    ("wav", "PCM_32", 11_025, "32"),
    ("wav", "FLOAT", 22_050, "32f"),
    ("wav", "DOUBLE", 48_000, "32f"),
    ("flac", "PCM_16", 96_000, "16"),
    ("flac", "PCM_24", 16_000, "24"),
    ("aiff", "PCM_24", 32_000, "24"),
    ("caf", "ALAC_16", 44_100, "16"),
    ("ogg", "VORBIS", 44_100, "32f"),
    ("opus", "OPUS", 48_000, "32f"),
    ("mp3", "MPEG_LAYER_III", 44_100, "32f"),
]


@pytest.mark.parametrize(("suffix", "coding", "sample_rate", "subtype"), SOURCES)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_stems_of_every_container_and_rate_keep_its_shape_and_sum_to_it(
    tmp_path: Path,
    separator: Separator,
    suffix: str,
    coding: str,
    sample_rate: int,
    subtype: Subtype,
    num_channels: int,
) -> None:
    song = tmp_path / f"song.{suffix}"
    container = {"opus": "OGG"}.get(suffix, suffix.upper())
    soundfile.write(song, noise(20_000, num_channels).T, sample_rate, format=container, subtype=coding)
    mixture = read_audio(song)
    done = separator.separate_file(song, tmp_path / "out")
    stems = [read_audio(path) for path in done.stems.values()]
    for path, stem in zip(done.stems.values(), stems, strict=True):
        assert (stem.sample_rate, stem.samples.shape) == (sample_rate, mixture.samples.shape)
        assert probe_audio(path).samples == subtype
        assert np.abs(stem.samples).max() > 0.05
    step = 2e-6 if subtype in ("32f", "32") else 2.0 ** (1 - int(subtype))
    np.testing.assert_allclose(stems[0].samples + stems[1].samples, mixture.samples, rtol=0, atol=1.01 * step)
    assert done.num_clipped == 0
    assert done.duration_seconds == pytest.approx(mixture.duration_seconds)


@pytest.mark.parametrize(
    ("name", "codec", "sample_format", "subtype"),
    [("song.m4a", "alac", "s16p", "16"), ("song.mkv", "pcm_s24le", "s32", "24"), ("song.m4a", "aac", "fltp", "32f")],
)
def test_songs_that_ffmpeg_reads_keep_their_bit_depth_too(
    tmp_path: Path, separator: Separator, name: str, codec: str, sample_format: str, subtype: Subtype
) -> None:
    song = write_with_ffmpeg(tmp_path / name, codec, 44_100, sample_format)
    done = separator.separate_file(song, tmp_path / "out")
    assert {probe_audio(path).samples for path in done.stems.values()} == {subtype}


@pytest.mark.parametrize(("suffix", "tolerance"), [("flac", 3.2e-5), ("ogg", 0.1), ("mp3", 0.1)])
def test_stems_of_other_formats_sum_to_the_song_as_far_as_the_format_goes(
    tmp_path: Path, separator: Separator, suffix: str, tolerance: float
) -> None:
    song = tmp_path / "song.wav"
    time = np.arange(30_000) / 44_100
    samples = np.stack([0.3 * np.sin(2 * np.pi * hz * time) for hz in (440, 660)]).astype(np.float32)
    encode(song, samples, 44_100, "16")
    done = separator.separate_file(song, tmp_path / "out", audio_format=suffix)
    total = np.add(*(read_audio(path).samples for path in done.stems.values()))
    middle = slice(2000, -2000)
    np.testing.assert_allclose(total[:, middle], read_audio(song).samples[:, middle], rtol=0, atol=tolerance)


def test_tags_are_carried_over(tmp_path: Path, separator: Separator) -> None:
    song = tmp_path / "song.flac"
    with soundfile.SoundFile(song, "w", samplerate=8000, channels=1) as file:
        file.title, file.artist = "Überall", "Jemand"
        file.write(noise(2000, 1).T)
    for audio_format in ("wav", "flac", "ogg", "mp3"):
        done = separator.separate_file(song, tmp_path / audio_format, audio_format=audio_format)
        for path in done.stems.values():
            tags = read_tags(path)
            assert (tags["title"], tags["artist"]) == ("Überall", "Jemand")


def test_one_stem_alone_is_written_alone(tmp_path: Path, separator: Separator) -> None:
    encode(tmp_path / "song.wav", noise(2000), 8000, "16")
    done = separator.separate_file(
        tmp_path / "song.wav", tmp_path, stems=("vocals",), filename="{track} ({stem}).{ext}", audio_format="flac"
    )
    assert done.stems == {"vocals": tmp_path / "song (vocals).flac"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["song (vocals).flac", "song.wav"]


def test_what_is_there_is_only_replaced_when_asked(tmp_path: Path, separator: Separator) -> None:
    encode(tmp_path / "song.wav", noise(2000), 8000, "16")
    separator.separate_file(tmp_path / "song.wav", tmp_path)
    with pytest.raises(InputError, match="already there"):
        separator.separate_file(tmp_path / "song.wav", tmp_path)
    separator.separate_file(tmp_path / "song.wav", tmp_path, overwrite=True)


def loud_song(path: Path) -> FloatArray:
    samples = noise(20_000, level=1.9)
    encode(path, samples, 8000)
    return samples


@pytest.mark.parametrize("subtype", ["16", "24"])
def test_rescaled_stems_fit_and_sum_to_the_song_turned_down(
    tmp_path: Path, separator: Separator, subtype: Subtype
) -> None:
    mixture = loud_song(tmp_path / "song.wav")
    done = separator.separate_file(tmp_path / "song.wav", tmp_path, subtype=subtype, clip_mode="rescale")
    stems = [read_audio(path).samples for path in done.stems.values()]
    assert done.gain_db < -1
    assert done.num_clipped == 0
    step = 2.0 ** (1 - int(subtype))
    loudest = max(np.abs(stem).max() for stem in stems)
    assert 1 - 3 * step <= loudest <= 1 - step
    gain = 10 ** (done.gain_db / 20)
    np.testing.assert_allclose(stems[0] + stems[1], gain * mixture, rtol=0, atol=1.01 * step + 1e-6)


def test_a_song_that_fits_is_not_rescaled(tmp_path: Path, separator: Separator) -> None:
    encode(tmp_path / "song.wav", noise(20_000), 8000, "16")
    done = separator.separate_file(tmp_path / "song.wav", tmp_path / "a", clip_mode="rescale")
    assert done.gain_db == 0
    plain = separator.separate_file(tmp_path / "song.wav", tmp_path / "b")
    for one, other in zip(done.stems.values(), plain.stems.values(), strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("clip_mode", ["warn", "rescale", "clamp"])
def test_floats_never_clip(tmp_path: Path, separator: Separator, clip_mode: ClipMode) -> None:
    mixture = loud_song(tmp_path / "song.wav")
    done = separator.separate_file(tmp_path / "song.wav", tmp_path, clip_mode=clip_mode)
    total = sum(read_audio(path).samples for path in done.stems.values())
    np.testing.assert_allclose(total, mixture, rtol=0, atol=2e-6)
    assert (done.num_clipped, done.gain_db) == (0, 0)


@pytest.mark.parametrize("audio_format", ["flac", "mp3"])
def test_clipping_is_counted_unless_it_was_asked_for(tmp_path: Path, separator: Separator, audio_format: str) -> None:
    loud_song(tmp_path / "song.wav")
    told = separator.separate_file(tmp_path / "song.wav", tmp_path / "told", audio_format=audio_format)
    asked = separator.separate_file(
        tmp_path / "song.wav", tmp_path / "asked", audio_format=audio_format, clip_mode="clamp"
    )
    assert told.num_clipped > 100
    assert asked.num_clipped == 0


class SlowReader:
    """A song whose second half comes when it is let in."""

    def __init__(self, num_samples: int, let_in: threading.Event) -> None:
        self.info = AudioInfo(sample_rate=8000, num_channels=2, num_samples=num_samples, subtype="PCM_16", samples="16")
        self._let_in = let_in

    def blocks(self, block_samples: int) -> Iterator[FloatArray]:
        assert block_samples >= 4000
        samples = noise(self.info.num_samples or 0)
        for start in range(0, samples.shape[1], 4000):
            if start >= samples.shape[1] // 2:
                assert self._let_in.wait(60)
            yield samples[:, start : start + 4000]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("name", ["wav", "flac"])
def test_the_first_seconds_are_on_the_disk_before_the_last_are_read(
    tmp_path: Path, separator: Separator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "song.wav").write_bytes(b"some")
    let_in = threading.Event()
    monkeypatch.setattr("vrtool.audio.decoding._open_reader", lambda *_: SlowReader(400_000, let_in))
    seen: list[float] = []
    worker = threading.Thread(
        target=lambda: separator.separate_file(
            tmp_path / "song.wav", tmp_path / "out", audio_format=name, on_progress=lambda done, _: seen.append(done)
        )
    )
    worker.start()
    try:
        # All of the first half but a chunk and its half and what encoders hold back, 16 bit in two channels.
        least_bytes = 0.5 * (200_000 - 48 * 128) * 4
        deadline = threading.Event()
        for _ in range(600):
            sizes = {path.name: path.stat().st_size for path in (tmp_path / "out/song").glob(".*partial*")}
            if len(sizes) == 2 and min(sizes.values()) > least_bytes:
                break
            deadline.wait(0.05)
        assert len(sizes) == 2
        assert min(sizes.values()) > least_bytes
        assert not list((tmp_path / "out/song").glob("[!.]*"))
        assert 0 < seen[-1] < 25
    finally:
        let_in.set()
        worker.join()
    assert sorted(path.name for path in (tmp_path / "out/song").iterdir()) == [f"instrumental.{name}", f"vocals.{name}"]


def test_ending_from_the_progress_callback_leaves_nothing(tmp_path: Path, separator: Separator) -> None:
    encode(tmp_path / "song.wav", noise(200_000), 8000, "16")

    def stop(done_seconds: float, total_seconds: float | None) -> None:
        assert total_seconds == 25
        if done_seconds > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        separator.separate_file(tmp_path / "song.wav", tmp_path / "out", on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]


def test_a_file_that_breaks_off_midway_is_named_and_leaves_nothing(tmp_path: Path, separator: Separator) -> None:
    samples = noise(40_000)
    samples[0, 30_000] = math.nan
    encode(tmp_path / "song.wav", samples, 8000)
    with pytest.raises(AudioError, match=r"song\.wav: sample 30000 \(3\.750 s\) is nan"):
        separator.separate_file(tmp_path / "song.wav", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]


@pytest.mark.parametrize("num_samples", [1, 2, 100])
def test_songs_of_a_few_samples_have_stems_of_a_few(tmp_path: Path, separator: Separator, num_samples: int) -> None:
    encode(tmp_path / "song.wav", noise(num_samples), 44_100)
    done = separator.separate_file(tmp_path / "song.wav", tmp_path)
    stems: dict[StemName, FloatArray] = {name: read_audio(path).samples for name, path in done.stems.items()}
    np.testing.assert_allclose(stems["vocals"] + stems["instrumental"], noise(num_samples), atol=1e-6)


def test_more_than_two_channels_are_refused_with_the_file(tmp_path: Path, separator: Separator) -> None:
    encode(tmp_path / "song.wav", noise(100, 6), 8000)
    with pytest.raises(AudioError, match=r"song\.wav: expected one or two channels, found 6"):
        separator.separate_file(tmp_path / "song.wav", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wav_file_of_more_than_4_gigabytes_counts_its_bytes_in_64_bits(
    tmp_path: Path, separator: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vrtool.audio.encoding.MAX_WAV_BYTES", 50_000)
    encode(tmp_path / "short.wav", noise(10_000), 8000, "16")
    encode(tmp_path / "long.wav", noise(20_000), 8000, "16")
    for name, magic in (("short", b"RIFF"), ("long", b"RF64")):
        done = separator.separate_file(tmp_path / f"{name}.wav", tmp_path)
        for path in done.stems.values():
            assert path.read_bytes()[:4] == magic
            assert read_audio(path).num_samples == read_audio(tmp_path / f"{name}.wav").num_samples


def test_a_picture_of_the_song_lies_beside_its_stems(tmp_path: Path, separator: Separator) -> None:
    encode(tmp_path / "song.wav", noise(20_000), 8000, "16")
    separator.separate_file(tmp_path / "song.wav", tmp_path / "out", images=True)
    separator.separate_file(
        tmp_path / "song.wav", tmp_path / "flat", stems=("vocals",), filename="{track}.wav", images=True
    )
    assert sorted(path.name for path in (tmp_path / "out/song").iterdir()) == [
        "instrumental.wav",
        "spectrograms.png",
        "vocals.wav",
    ]
    assert sorted(path.name for path in (tmp_path / "flat").iterdir()) == ["song.png", "song.wav"]
    for picture in (tmp_path / "out/song/spectrograms.png", tmp_path / "flat/song.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size > 10_000


def test_where_the_picture_fails_no_stem_is_left(
    tmp_path: Path, separator: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vrtool.drawing.song_picture.SongPicture.finish", refuse)
    encode(tmp_path / "song.wav", noise(20_000), 8000, "16")
    with pytest.raises(OSError, match="No space left"):
        separator.separate_file(tmp_path / "song.wav", tmp_path / "out", images=True)
    assert not (tmp_path / "out").exists()
