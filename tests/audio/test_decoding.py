from __future__ import annotations

import os
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from vrtool.audio.decoding import BLOCK_SAMPLES, open_audio, probe_audio
from vrtool.audio.formats import AUDIO_SUFFIXES
from vrtool.audio.waveform import read_audio
from vrtool.errors import AudioError, InputError

RATE = 44100
FloatArray = npt.NDArray[np.float32]


def music(num_channels: int = 2, num_samples: int = RATE, sample_rate: int = RATE) -> FloatArray:
    """Noise without its highest frequencies, which every codec keeps well; (channel, sample), within ±0.5."""
    generator = np.random.default_rng(0)
    spectrum = np.fft.rfft(generator.normal(size=(num_channels, num_samples)))
    spectrum[:, int(3000 / sample_rate * num_samples) :] = 0
    samples = np.fft.irfft(spectrum, num_samples)
    scaled: FloatArray = (0.5 * samples / np.abs(samples).max()).astype(np.float32)
    return scaled


def write(path: Path, samples: FloatArray, subtype: str | None = None, sample_rate: int = RATE) -> Path:
    file_format = "OGG" if path.suffix == ".opus" else None
    soundfile.write(path, samples.T, sample_rate, subtype=subtype, format=file_format)
    return path


def write_with_ffmpeg(
    path: Path,
    codec: str,
    samples: FloatArray,
    *,
    sample_rate: int = RATE,
    video: bool = False,
    faststart: bool = False,
) -> Path:
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as container:
        # All streams have to be there before the first packet of any.
        pictures = video_stream(container) if video else None
        stream = container.add_stream(codec, rate=sample_rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = 192_000
        if pictures:
            add_pictures(container, pictures)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
        resampler = av.AudioResampler(
            format=stream.format, layout=layout, rate=sample_rate, frame_size=stream.frame_size or 1024
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def video_stream(container: av.container.OutputContainer) -> av.VideoStream:
    stream = container.add_stream("mpeg4", rate=25)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    return stream


def add_pictures(container: av.container.OutputContainer, stream: av.VideoStream) -> None:
    for index in range(25):
        frame = av.VideoFrame(32, 32, "yuv420p")
        frame.pts = index
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def delay(reference: FloatArray, found: FloatArray) -> int:
    """Return by how many samples `found` comes later than `reference`, by the peak of their correlation."""
    length = reference.shape[1] + found.shape[1]
    product = np.fft.rfft(found[0], length) * np.conj(np.fft.rfft(reference[0], length))
    lag = int(np.argmax(np.fft.irfft(product, length)))
    return lag if lag < length // 2 else lag - length


def error_db(expected: FloatArray, found: FloatArray) -> float:
    return float(10 * np.log10(np.sum((found - expected) ** 2) / np.sum(expected**2)))


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".flac", ".caf", ".w64", ".au"])
@pytest.mark.parametrize(("subtype", "num_bits"), [("PCM_16", 16), ("PCM_24", 24)])
def test_lossless_files_decode_sample_by_sample(tmp_path: Path, suffix: str, subtype: str, num_bits: int) -> None:
    steps = np.random.default_rng(0).integers(-(1 << num_bits - 1), 1 << num_bits - 1, (2, 5000))
    expected = (steps / (1 << num_bits - 1)).astype(np.float32)
    found = read_audio(write(tmp_path / f"song{suffix}", expected, subtype))
    np.testing.assert_array_equal(found.samples, expected)


@pytest.mark.parametrize(
    ("name", "sample_rate"), [("a.ogg", RATE), ("a.opus", 48000), ("a.mp3", RATE), ("A.MP3", RATE)]
)
def test_lossy_files_decode_to_the_same_length_and_nearly_the_same_sound(
    tmp_path: Path, name: str, sample_rate: int
) -> None:
    expected = music(sample_rate=sample_rate)
    found = read_audio(write(tmp_path / name, expected, sample_rate=sample_rate))
    assert found.sample_rate == sample_rate
    assert found.samples.shape == expected.shape
    assert error_db(expected, found.samples) < -10


@pytest.mark.parametrize(
    ("name", "codec", "video"),
    [
        ("a.m4a", "aac", False),
        ("a.m4a", "alac", False),
        ("a.mp4", "aac", True),
        ("a.mov", "pcm_s16le", False),
        ("a.mkv", "ac3", True),
        ("a.mka", "flac", False),
        ("a.webm", "libopus", False),
        ("a.wma", "wmav2", False),
        ("a.aac", "aac", False),
        ("a.ac3", "ac3", False),
        ("a.wv", "wavpack", False),
        ("a.mp2", "mp2", False),
        ("a.avi", "mp2", True),
    ],
)
def test_files_of_ffmpeg_decode_to_nearly_the_same_sound(tmp_path: Path, name: str, codec: str, video: bool) -> None:
    sample_rate = 48000 if codec == "libopus" else RATE
    expected = music(num_samples=sample_rate, sample_rate=sample_rate)
    path = write_with_ffmpeg(tmp_path / name, codec, expected, sample_rate=sample_rate, video=video)
    found = read_audio(path)
    assert found.sample_rate == sample_rate
    assert abs(found.samples.shape[1] - expected.shape[1]) < 0.1 * sample_rate
    lag = delay(expected, found.samples)
    assert error_db(expected[:, 4000:30000], found.samples[:, 4000 + lag : 30000 + lag]) < -10


# Matroska states AAC's delay only where a recent ffmpeg wrote it.
@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mp4", "aac"), ("a.webm", "libopus")])
def test_an_encoders_delay_is_not_heard(tmp_path: Path, name: str, codec: str) -> None:
    samples = music(num_samples=48000, sample_rate=48000)
    path = write_with_ffmpeg(tmp_path / name, codec, samples, sample_rate=48000)
    assert delay(samples, read_audio(path).samples) == 0


@pytest.mark.parametrize("num_channels", [1, 2, 6])
def test_any_number_of_channels_is_decoded(tmp_path: Path, num_channels: int) -> None:
    samples = music(num_channels)
    assert read_audio(write(tmp_path / "a.wav", samples)).num_channels == num_channels
    assert read_audio(write_with_ffmpeg(tmp_path / "a.m4a", "aac", samples)).num_channels == num_channels


def test_a_wav_file_that_libsndfile_refuses_is_read_by_ffmpeg(tmp_path: Path) -> None:
    path = write_with_ffmpeg(tmp_path / "a.wav", "adpcm_yamaha", music())
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(path)
    assert probe_audio(path).subtype == "adpcm_yamaha"
    assert read_audio(path).num_samples >= RATE


def test_samples_that_are_not_finite_or_beyond_full_scale_are_passed_on(tmp_path: Path) -> None:
    samples = np.array([[0.5, np.nan, np.inf, -np.inf, 3.5]], np.float32)
    found = read_audio(write(tmp_path / "a.wav", samples, "FLOAT"))
    np.testing.assert_array_equal(found.samples, samples)


@pytest.mark.parametrize("placeholder", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_file_streamed_without_its_length_is_read_whole(tmp_path: Path, placeholder: int) -> None:
    path = write(tmp_path / "a.wav", music(), "PCM_16")
    content = bytearray(path.read_bytes())
    data = content.index(b"data")
    content[data + 4 : data + 8] = placeholder.to_bytes(4, "little")
    content[4:8] = placeholder.to_bytes(4, "little")
    path.write_bytes(content)
    assert read_audio(path).num_samples == RATE


def test_a_flac_file_streamed_without_its_length_is_read_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", music())
    content = bytearray(path.read_bytes())
    # STREAMINFO, from byte 8 on, has the 36 bits of its number of samples from bit 108 on.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert probe_audio(path).num_samples is None
    assert read_audio(path).num_samples == RATE


def test_an_mp3_file_without_a_stated_length_is_read_whole(tmp_path: Path) -> None:
    # A long quiet beginning misleads whoever guesses the length of a variable bit rate from the first frame.
    samples = np.concatenate([music(), np.zeros((2, RATE), np.float32)], axis=1)
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(path, "w", RATE, 2, compression_level=0.5, bitrate_mode="VARIABLE") as file:
        file.write(samples.T)
    content = path.read_bytes()
    second_frame = content.index(content[:2], 100)
    path.write_bytes(content[second_frame:])
    assert soundfile.info(path).frames < 1.8 * RATE
    assert read_audio(path).num_samples >= 2 * RATE


def test_a_stream_that_changes_its_rate_and_channels_goes_on_in_the_first_ones(tmp_path: Path) -> None:
    first = write_with_ffmpeg(tmp_path / "first.aac", "aac", music())
    second = write_with_ffmpeg(tmp_path / "second.aac", "aac", music(1, 22050, 22050), sample_rate=22050)
    joined = tmp_path / "joined.aac"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    found = read_audio(joined)
    assert (found.sample_rate, found.num_channels) == (RATE, 2)
    assert found.duration_seconds == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", "PCM_16"),
        ("a.wav", "FLOAT"),
        ("a.aiff", "PCM_16"),
        ("a.caf", "PCM_16"),
        ("a.flac", "PCM_16"),
        ("a.ogg", "VORBIS"),
        ("a.opus", "OPUS"),
        ("a.mp3", None),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_cut_short_is_refused_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, subtype: str | None, share: float
) -> None:
    sample_rate = 48000 if name == "a.opus" else RATE
    path = write(tmp_path / name, music(num_samples=3 * sample_rate), subtype, sample_rate)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(AudioError, match=rf"{name}: expected .* found .* get a complete copy"):
        read_audio(path)
    assert capfd.readouterr().err == ""  # the libraries' own warnings would litter the progress display


@pytest.mark.parametrize(
    ("name", "codec", "video", "faststart"),
    [
        ("a.m4a", "aac", False, False),
        ("a.m4a", "aac", False, True),
        ("a.mp4", "alac", True, True),
        ("a.mkv", "aac", True, False),
        ("a.webm", "libopus", False, False),
        ("a.wv", "wavpack", False, False),
    ],
)
def test_a_file_of_ffmpeg_cut_short_is_refused_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, codec: str, video: bool, faststart: bool
) -> None:
    samples = music(num_samples=96000, sample_rate=48000)
    path = write_with_ffmpeg(tmp_path / name, codec, samples, sample_rate=48000, video=video, faststart=faststart)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(AudioError, match=f"{name}: expected .* found "):
        read_audio(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["a.flac", "a.ogg"])
def test_a_file_damaged_in_the_middle_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, music(num_samples=3 * RATE))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8000] = np.random.default_rng(0).bytes(8000)
    path.write_bytes(content)
    with pytest.raises(AudioError, match=f"{name}: expected .* found "):
        read_audio(path)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.mkv", "a.ac3"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"expected audio, found an empty file \(0 bytes\)"),
        (
            b"this is a text, not a song\n" * 200,
            "expected .*audio, found what .* read.*; is the file complete, and audio at all",
        ),
        (bytes(5000), "expected .*audio, found "),
    ],
)
def test_a_file_that_is_not_audio_is_refused_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AudioError, match=f"{name}: {message}"):
        read_audio(path)
    assert capfd.readouterr().err == ""


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music()[:, :0])
    with pytest.raises(AudioError, match=r"a\.wav: expected audio, found a track without a single sample"):
        read_audio(path)


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        add_pictures(container, video_stream(container))
    with pytest.raises(AudioError, match=r"a\.mp4: expected an audio stream, found a file without one"):
        read_audio(path)


@pytest.mark.parametrize(
    ("name", "codec", "tag", "unknown"), [("a.mka", "flac", b"A_FLAC", b"A_XYZW"), ("a.m4a", "alac", b"alac", b"drms")]
)
def test_a_stream_that_no_decoder_knows_is_refused(
    tmp_path: Path, name: str, codec: str, tag: bytes, unknown: bytes
) -> None:
    path = write_with_ffmpeg(tmp_path / name, codec, music())
    path.write_bytes(path.read_bytes().replace(tag, unknown))
    with pytest.raises(AudioError, match=rf"{name}: expected audio, found what ffmpeg cannot read"):
        read_audio(path)


def test_tags_behind_the_last_page_of_an_ogg_file_do_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ogg", music())
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    assert read_audio(path).num_samples == RATE
    path.write_bytes(path.read_bytes() + bytes(200_000))
    assert read_audio(path).num_samples == RATE


def test_a_missing_file_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.wav: expected an audio file, found nothing of that name"):
        read_audio(tmp_path / "a.wav")


def test_a_folder_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an audio file that can be opened"):
        probe_audio(tmp_path)


def test_a_header_tells_rate_channels_length_and_subtype(tmp_path: Path) -> None:
    info = probe_audio(write(tmp_path / "a.wav", music(), "PCM_24"))
    assert (info.sample_rate, info.num_channels, info.num_samples, info.subtype) == (RATE, 2, RATE, "PCM_24")
    info = probe_audio(write_with_ffmpeg(tmp_path / "a.m4a", "alac", music()))
    assert (info.sample_rate, info.num_channels, info.num_samples, info.subtype) == (RATE, 2, RATE, "alac")


@pytest.mark.parametrize(("name", "codec"), [("a.wav", None), ("a.mp3", None), ("a.ogg", None), ("a.m4a", "alac")])
@pytest.mark.parametrize("block_samples", [1000, 1024, 100_000])
def test_blocks_are_the_file_piece_by_piece(tmp_path: Path, name: str, codec: str | None, block_samples: int) -> None:
    path = write_with_ffmpeg(tmp_path / name, codec, music()) if codec else write(tmp_path / name, music())
    with open_audio(path) as reader:
        blocks = list(reader.blocks(block_samples))
    assert all(block.shape[1] == block_samples for block in blocks[:-1])
    assert 0 < blocks[-1].shape[1] <= block_samples
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), read_audio(path).samples)


@pytest.mark.parametrize(("name", "codec"), [("a.wav", None), ("a.mov", "pcm_s16le")])
def test_blocks_need_little_memory_however_long_the_file(tmp_path: Path, name: str, codec: str | None) -> None:
    samples = music(num_samples=30 * RATE)
    path = write_with_ffmpeg(tmp_path / name, codec, samples) if codec else write(tmp_path / name, samples)
    tracemalloc.start()
    with open_audio(path) as reader:
        num_samples = sum(block.shape[1] for block in reader.blocks(BLOCK_SAMPLES))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_samples == 30 * RATE
    assert peak_bytes < 4e6  # all of it has 10 MB


@pytest.mark.parametrize("name", ["Dvořák – Rusalka.wav", "live: take 1.m4a", "50%d.m4a", "http:x.m4a"])
def test_a_files_name_can_be_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if os.name == "nt" and ":" in name:
        pytest.skip("Windows has no colons in names")
    path = tmp_path / name
    write_with_ffmpeg(
        tmp_path / f"plain{path.suffix}", "pcm_s16le" if path.suffix == ".wav" else "alac", music()
    ).rename(path)
    monkeypatch.chdir(tmp_path)
    assert read_audio(Path(name)).num_samples == RATE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not valid Unicode")
@pytest.mark.parametrize(("suffix", "codec"), [(".wav", "pcm_s16le"), (".m4a", "alac")])
def test_a_files_name_need_not_be_valid_unicode(tmp_path: Path, suffix: str, codec: str) -> None:
    plain = write_with_ffmpeg(tmp_path / f"plain{suffix}", codec, music())
    path = plain.rename(tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode()))
    assert read_audio(path).num_samples == RATE


def test_audio_is_known_by_lower_case_suffixes_with_a_dot() -> None:
    required = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".mp4", ".mkv", ".wma"}
    assert required <= AUDIO_SUFFIXES
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in AUDIO_SUFFIXES)
