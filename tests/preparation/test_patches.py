"""The ancestor's patches through the preparation: what is cached is what was in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vrtool.audio.spectrogram import ComplexArray, StftSpec, stft
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import CachedTrack, open_cache
from vrtool.dataset.rows import Precision
from vrtool.errors import CacheError
from vrtool.preparation import PreparationReport

Make = Callable[..., FloatArray]
Import = Callable[..., PreparationReport]

PATCH_FRAMES = 50


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """An empty library of patches."""
    (tmp_path / "patches").mkdir()
    return tmp_path / "patches"


@pytest.fixture
def import_patches(
    run_prepare: Callable[..., PreparationReport], patches: Path, tmp_path: Path, tiny_stft: StftSpec
) -> Import:
    """Prepares the patches in this process, keeping every bit unless told otherwise."""
    return partial(run_prepare, tmp_path / "cache", npz=[patches], stft=tiny_stft, precision="float32")


def write(
    folder: Path, song: str, *, c: float, leave_out: frozenset[int] = frozenset(), **arrays: ComplexArray
) -> None:
    """Write a song's patches as the ancestor does: of equal length, the last one filled up with zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    num_frames = arrays["X"].shape[2]
    for number, start in enumerate(range(0, num_frames, PATCH_FRAMES)):
        cut = {name: array[:, :, start : start + PATCH_FRAMES] for name, array in arrays.items()}
        missing = PATCH_FRAMES - cut["X"].shape[2]
        cut = {name: np.asfortranarray(np.pad(array, ((0, 0), (0, 0), (0, missing)))) for name, array in cut.items()}
        if number not in leave_out:
            np.savez(folder / f"{song}_p{number}.npz", c=np.float32(c), **cut)  # type: ignore[arg-type]


def only_track(report: PreparationReport) -> CachedTrack:
    assert report.problems == ()
    (track,) = report.cache.tracks
    assert track.verify() is None
    return track


def largest(spectrogram: ComplexArray) -> object:
    return pytest.approx(float(np.abs(spectrogram).max()), rel=1e-6)


class TestSpectrograms:
    @pytest.mark.parametrize("num_channels", [1, 2])
    @pytest.mark.parametrize("seconds", [1.5, 9.6])
    def test_float32_keeps_every_bit(
        self,
        import_patches: Import,
        patches: Path,
        make_signal: Make,
        tiny_stft: StftSpec,
        num_channels: int,
        seconds: float,
    ) -> None:
        x = stft(make_signal(0, seconds=seconds, num_channels=num_channels), tiny_stft)
        write(patches, "song", X=x, c=np.abs(x).max())
        track = only_track(import_patches())
        assert (track.header.kind, track.header.name, track.header.num_channels) == (
            "instrumental",
            "song",
            num_channels,
        )
        assert track.header.num_frames == x.shape[2]
        np.testing.assert_array_equal(track.read_complex("instrumental", 0, x.shape[2]), x)
        assert track.header.statistics["instrumental"].peak == largest(x)

    def test_int16_errs_80_db_below_the_signal(
        self, import_patches: Import, patches: Path, make_signal: Make, tiny_stft: StftSpec
    ) -> None:
        x = stft(make_signal(0, seconds=5.0), tiny_stft)
        write(patches, "song", X=x, c=np.abs(x).max())
        track = only_track(import_patches(precision="int16"))
        error = track.read_complex("instrumental", 0, x.shape[2]) - x
        assert 20 * np.log10(np.linalg.norm(error) / np.linalg.norm(x)) < -80

    @pytest.mark.parametrize(("precision", "limit_db"), [("float32", -500.0), ("int16", -80.0)])
    def test_a_pair_has_both_and_its_vocals_are_what_one_has_above_the_other(
        self,
        import_patches: Import,
        patches: Path,
        make_signal: Make,
        tiny_stft: StftSpec,
        precision: Precision,
        limit_db: float,
    ) -> None:
        y = stft(make_signal(0, seconds=5.0), tiny_stft)
        x = y + stft(make_signal(1, seconds=5.0, level=0.05), tiny_stft)
        write(patches, "song", X=x, Y=y, c=np.abs(x).max())
        track = only_track(import_patches(precision=precision))
        assert (track.header.kind, list(track.header.storage)) == ("pair", ["mixture", "instrumental"])
        for role, expected in (("mixture", x), ("instrumental", y)):
            error = track.read_complex(role, 0, x.shape[2]) - expected  # type: ignore[arg-type]
            assert 20 * np.log10(np.linalg.norm(error) / np.linalg.norm(expected) + 1e-30) < limit_db
        peaks = {role: statistics.peak for role, statistics in track.header.statistics.items()}
        assert peaks == {"mixture": largest(x), "instrumental": largest(y), "vocals": largest(x - y)}

    def test_the_peak_of_vocals_is_measured_where_c_tells_the_waveforms(
        self, import_patches: Import, patches: Path, make_signal: Make, tiny_stft: StftSpec
    ) -> None:
        samples = make_signal(0, seconds=5.0)
        x = stft(samples, tiny_stft)
        write(patches, "song", X=x, c=np.abs(samples).max())
        track = only_track(import_patches())
        assert track.header.kind == "vocal"
        assert track.header.statistics["vocals"].peak == largest(x)
        assert track.header.statistics["vocals"].peak > 2 * np.abs(samples).max()

    def test_silence_that_was_left_out_of_vocals_is_silence_again(
        self, import_patches: Import, patches: Path, make_signal: Make, tiny_stft: StftSpec
    ) -> None:
        samples = make_signal(0, seconds=5.0)
        x = stft(samples, tiny_stft)
        x[:, :, PATCH_FRAMES : 3 * PATCH_FRAMES] = 0
        write(patches, "song", X=x, c=np.abs(samples).max(), leave_out=frozenset({1, 2}))
        assert len(list(patches.iterdir())) == 5
        track = only_track(import_patches())
        np.testing.assert_array_equal(track.read_complex("vocals", 0, x.shape[2]), x)
        assert track.header.statistics["vocals"].silence_share == pytest.approx(100 / x.shape[2], abs=0.02)

    def test_it_measures_the_same_as_on_the_audio(
        self,
        import_patches: Import,
        run_prepare: Callable[..., PreparationReport],
        patches: Path,
        tmp_path: Path,
        make_signal: Make,
        write_sound: Callable[..., Path],
        tiny_stft: StftSpec,
    ) -> None:
        samples = make_signal(0, seconds=5.0)
        samples[:, 16000:24000] = 0.0
        write(patches, "song", X=stft(samples, tiny_stft), c=np.abs(samples).max())
        write_sound(tmp_path / "vocals/song.wav", samples)
        patch = only_track(import_patches()).header
        audio = only_track(run_prepare(tmp_path / "other", vocals=[tmp_path / "vocals"], stft=tiny_stft)).header
        assert patch.num_frames == audio.num_frames
        assert abs(patch.num_samples - audio.num_samples) < tiny_stft.hop_length
        found, expected = patch.statistics["vocals"], audio.statistics["vocals"]
        assert found.peak == pytest.approx(expected.peak)
        assert found.level_db == pytest.approx(expected.level_db, abs=0.2)
        assert found.silence_share == pytest.approx(expected.silence_share, abs=0.02)


class TestHeaders:
    def test_it_says_where_the_track_is_from(
        self, import_patches: Import, patches: Path, make_signal: Make, tiny_stft: StftSpec
    ) -> None:
        x = stft(make_signal(0, seconds=2.0), tiny_stft)
        write(patches / "album", "song", X=x, c=np.abs(x).max())
        header = only_track(import_patches()).header
        assert (header.library, header.name, header.alignment) == ("patches", "album/song", None)
        assert [Path(source.path).name for source in header.sources] == ["song_p0.npz", "song_p1.npz", "song_p2.npz"]

    def test_only_a_changed_patch_makes_its_song_anew(
        self, import_patches: Import, patches: Path, make_signal: Make, tiny_stft: StftSpec
    ) -> None:
        signals = [stft(make_signal(seed, seconds=2.0), tiny_stft) for seed in range(2)]
        for number, x in enumerate(signals):
            write(patches, f"song{number}", X=x, c=1000.0)
        assert import_patches().num_prepared == 2
        assert import_patches().num_prepared == 0
        np.savez(patches / "song1_p2.npz", X=np.ones((2, 129, PATCH_FRAMES), np.complex64), c=np.float32(1000.0))
        assert import_patches().num_prepared == 1
        track = open_cache(patches.parent / "cache").tracks[1]
        assert (track.read_complex("instrumental", 100, 50) == 1.0).all()

    def test_songs_of_audio_and_of_patches_share_a_cache(
        self,
        import_patches: Import,
        run_prepare: Callable[..., PreparationReport],
        patches: Path,
        small_library: Path,
        tmp_path: Path,
        tiny_stft: StftSpec,
    ) -> None:
        write(patches, "song", X=np.ones((2, 129, 80), np.complex64), c=1000.0)
        import_patches()
        report = run_prepare(tmp_path / "cache", vocals=[small_library / "vocals"], stft=tiny_stft, precision="float32")
        assert [track.key.partition("/")[0] for track in report.cache.tracks] == ["instrumental", *["vocal"] * 3]


class TestProblems:
    @pytest.fixture
    def song(self, make_signal: Make, tiny_stft: StftSpec) -> ComplexArray:
        return stft(make_signal(0, seconds=2.0), tiny_stft)

    def test_another_n_fft_is_refused_with_the_option_to_pass_and_every_song_is_named(
        self, import_patches: Import, patches: Path, song: ComplexArray
    ) -> None:
        for name in ("one", "two"):
            write(patches, name, X=song[:, :65], c=1000.0)
        report = import_patches()
        assert [(problem.path, problem.reason) for problem in report.problems] == [
            (str(patches / name), "has 65 bins, expected 129; pass --n-fft 128") for name in ("one", "two")
        ]

    @pytest.mark.parametrize(("folder", "reason"), [
        ("cs50_sr44100_hl128_nf256_of0", "sample_rate 44100, expected 8000; pass --sample-rate 44100"),
        ("cs50_sr8000_hl64_nf256_of0", "hop_length 64, expected 128; pass --hop-length 64"),
    ])  # fmt: skip
    def test_what_the_folders_name_says_is_believed(
        self, import_patches: Import, patches: Path, song: ComplexArray, folder: str, reason: str
    ) -> None:
        write(patches / folder, "song", X=song, c=1000.0)
        (problem,) = import_patches().problems
        assert problem.path == str(patches / folder / "song")
        assert problem.reason == f"its folder's name says {reason}"

    def test_a_folders_name_that_fits_does_no_harm(
        self, import_patches: Import, patches: Path, song: ComplexArray
    ) -> None:
        write(patches / "cs50_sr8000_hl128_nf256_of0", "song", X=song, c=1000.0)
        assert only_track(import_patches()).header.num_frames == song.shape[2]

    def test_a_damaged_patch_is_named_and_the_other_songs_are_done(
        self, import_patches: Import, patches: Path, song: ComplexArray
    ) -> None:
        for name in ("one", "two"):
            write(patches, name, X=song, c=1000.0)
        path = patches / "one_p1.npz"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        report = import_patches()
        assert [track.header.name for track in report.cache.tracks] == ["two"]
        (problem,) = report.problems
        assert "one_p1.npz" in problem.reason + problem.path
        assert not list(report.cache.path.rglob(".*partial*"))

    def test_short_songs_are_left_out_as_those_of_audio(
        self, import_patches: Import, patches: Path, song: ComplexArray
    ) -> None:
        write(patches, "short", X=song[:, :, :60], c=1000.0)
        write(patches, "silent", X=0 * song, c=1000.0)
        report = import_patches(minimum_seconds=1.0)
        assert [(problem.path, problem.reason) for problem in report.problems] == [
            (str(patches / "short"), "is 0.94 s long, expected at least 1 s (--minimum-seconds)"),
            (str(patches / "silent"), "is 0.00 s long, expected at least 1 s (--minimum-seconds)"),
        ]

    def test_a_cache_of_another_stft_is_refused_before_anything_is_read(
        self, import_patches: Import, patches: Path, song: ComplexArray, tiny_stft: StftSpec
    ) -> None:
        write(patches, "song", X=song, c=1000.0)
        import_patches()
        with pytest.raises(CacheError, match="was made with n_fft 256, this run asks for 512"):
            import_patches(stft=replace(tiny_stft, n_fft=512))
