from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from vrtool.audio.decoding import probe_audio
from vrtool.audio.encoding import encode
from vrtool.audio.formats import Subtype
from vrtool.audio.output_formats import OUTPUT_FORMATS
from vrtool.audio.waveform import read_audio
from vrtool.errors import AudioError, InputError

FloatArray = npt.NDArray[np.float32]


def noise(num_samples: int = 100_000, num_channels: int = 2, amplitude: float = 0.9) -> FloatArray:
    generator = np.random.default_rng(0)
    return generator.uniform(-amplitude, amplitude, (num_channels, num_samples)).astype(np.float32)


def tones(num_samples: int) -> FloatArray:
    steps = np.arange(num_samples) * 2 * np.pi / 44100
    return np.stack([0.5 * np.sin(440 * steps), 0.4 * np.sin(660 * steps)]).astype(np.float32)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize("subtype", ["16", "24"])
def test_integer_files_give_back_integer_content_sample_by_sample(tmp_path: Path, name: str, subtype: Subtype) -> None:
    full_scale = 1 << (int(subtype) - 1)
    steps = np.random.default_rng(0).integers(-full_scale, full_scale, (2, 100_000))
    steps[:, :2] = [-full_scale, full_scale - 1]
    samples = (steps / full_scale).astype(np.float32)
    assert encode(tmp_path / name, samples, 44100, subtype) == 0
    assert soundfile.info(tmp_path / name).subtype == f"PCM_{subtype}"
    np.testing.assert_array_equal(read_audio(tmp_path / name).samples, samples)


def test_float_files_give_back_any_sample(tmp_path: Path) -> None:
    samples = noise(amplitude=7.0)
    samples[0, :3] = [np.nan, np.inf, 1e-30]
    assert encode(tmp_path / "a.wav", samples, 44100) == 0
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav").samples, samples)


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "FLOAT"), ("a.flac", "PCM_24")])
def test_without_a_subtype_the_most_exact_one_is_written(tmp_path: Path, name: str, subtype: str) -> None:
    encode(tmp_path / name, noise(100), 44100)
    assert soundfile.info(tmp_path / name).subtype == subtype


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3", "A.OGG"])
@pytest.mark.parametrize("num_samples", [1, 1000, 200_000])
def test_lossy_files_have_the_same_length_and_nearly_the_same_sound(
    tmp_path: Path, name: str, num_samples: int
) -> None:
    samples = tones(num_samples)
    assert encode(tmp_path / name, samples, 44100) == 0
    found = read_audio(tmp_path / name).samples
    assert found.shape == samples.shape
    assert np.abs(found - samples)[:, 3000:-3000].max(initial=0) < 0.01


def test_a_long_ogg_file_is_written_whole(tmp_path: Path) -> None:
    encode(tmp_path / "a.ogg", tones(44100 * 60)[:1], 44100)
    assert probe_audio(tmp_path / "a.ogg").num_samples == 44100 * 60


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "16"), ("a.wav", "24"), ("a.flac", "16"), ("a.flac", "24")])
def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path: Path, name: str, subtype: Subtype) -> None:
    samples = np.array([[0.5, 1.5, -1.0, -1.5, 0.0], [1.0, 0.9, -7.0, 0.1, 0.0]], np.float32)
    assert encode(tmp_path / name, samples, 44100, subtype) == 4
    found = read_audio(tmp_path / name).samples
    step = 2.0 ** (1 - int(subtype))
    assert np.abs(found - np.clip(samples, -1, 1 - step)).max() <= step / 2


def test_integer_samples_are_rounded_to_the_nearest_step(tmp_path: Path) -> None:
    samples = (np.array([[0.4, 0.6, -0.4, -0.6, 100.49, -100.51]]) / 32768).astype(np.float32)
    encode(tmp_path / "a.wav", samples, 44100, "16")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav").samples * 32768, [[0, 1, 0, -1, 100, -101]])


@pytest.mark.parametrize("name", sorted(OUTPUT_FORMATS))
def test_the_sample_rate_and_channels_are_kept(tmp_path: Path, name: str) -> None:
    for sample_rate, num_channels in ((8000, 1), (48000, 2)):
        path = tmp_path / f"{num_channels}.{name}"
        encode(path, noise(3000, num_channels), sample_rate)
        info = probe_audio(path)
        assert (info.sample_rate, info.num_channels, info.num_samples) == (sample_rate, num_channels, 3000)


@pytest.mark.parametrize(
    ("name", "sample_rate", "num_channels", "message"),
    [
        ("a.mp3", 96000, 2, "mp3 takes sample rates .*, 44100, 48000 Hz, found 96000; use wav"),
        ("a.ogg", 384000, 2, "ogg takes sample rates up to 200000 Hz, found 384000; use wav"),
        ("a.flac", 700000, 2, "flac takes sample rates up to 655350 Hz, found 700000; use wav"),
        ("a.mp3", 44100, 3, "mp3 holds at most 2 channels, found 3; use wav"),
        ("a.flac", 44100, 9, "flac holds at most 8 channels, found 9; use wav"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_a_remedy(
    tmp_path: Path, name: str, sample_rate: int, num_channels: int, message: str
) -> None:
    with pytest.raises(AudioError, match=rf"{name}: {message}"):
        encode(tmp_path / name, noise(100, num_channels), sample_rate)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "16"), ("a.flac", None), ("a.ogg", None), ("a.mp3", None)])
def test_samples_that_are_not_finite_are_refused_where_they_cannot_be_kept(
    tmp_path: Path, name: str, subtype: Subtype | None
) -> None:
    samples = noise(100)
    samples[1, 50] = np.nan
    with pytest.raises(AudioError, match=f"{name}: expected finite samples"):
        encode(tmp_path / name, samples, 44100, subtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "subtype", "message"),
    [
        ("a.m4a", None, r"expected a name that ends in \.wav, \.flac, \.ogg, \.mp3, found a\.m4a"),
        ("a", None, "expected a name that ends in"),
        ("a.flac", "32f", "flac takes one of 24, 16, 8, found 32f"),
        ("a.mp3", "16", "mp3 takes no subtype, found 16"),
    ],
)
def test_an_unknown_format_is_the_users_mistake(
    tmp_path: Path, name: str, subtype: Subtype | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        encode(tmp_path / name, noise(100), 44100, subtype)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_full_disk_is_an_os_error_and_leaves_what_was_there(
    tmp_path: Path, limit_file_size: Callable[[int], None], capfd: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_bytes(b"old")
    limit_file_size(20_000)
    with pytest.raises(OSError, match="File too large") as caught:
        encode(tmp_path / name, noise(200_000), 44100)
    assert caught.value.filename == str(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
    assert capfd.readouterr().err == ""


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        encode(tmp_path / "missing" / "a.wav", noise(100), 44100)
