from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import CachedTrack
from vrtool.dataset.header import TrackHeader
from vrtool.dataset.library import Kind, Role, Source, Track
from vrtool.dataset.track_file import read_header
from vrtool.errors import AudioError, VrtoolError
from vrtool.preparation.track import TrackTask, identify, prepare_track

Make = Callable[..., FloatArray]
Write = Callable[..., Path]


@pytest.fixture
def prepared(tmp_path: Path, tiny_stft: StftSpec) -> Callable[..., CachedTrack]:
    """`prepared(kind, role=path or paths, ...)` prepares one track of these files and returns it."""

    def prepare(kind: Kind, *, minimum_seconds: float = 0.5, **roles: Path | tuple[Path, ...]) -> CachedTrack:
        sources: dict[Role, tuple[Source, ...]] = {}
        for role, paths in roles.items():
            paths = paths if isinstance(paths, tuple) else (paths,)
            sources[role] = tuple(Source(path=path) for path in paths)  # type: ignore[index]
        if kind == "pair":
            sources["vocals"] = ()  # never read: they are the difference
        task = TrackTask(
            track=Track(name="song", kind=kind, sources=sources),
            destination=tmp_path / "cache" / kind / "song.h5",
            stft=tiny_stft,
            minimum_seconds=minimum_seconds,
        )
        header = prepare_track(task)
        return CachedTrack(path=task.destination, header=header, split="training")

    return prepare


class TestHeader:
    def test_it_is_what_the_file_says(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        track = prepared("vocal", vocals=write_sound(tmp_path / "v.wav", make_signal(0)))
        assert read_header(track.path) == track.header
        assert track.verify() is None

    def test_it_says_what_the_audio_is(
        self,
        prepared: Callable[..., CachedTrack],
        make_signal: Make,
        write_sound: Write,
        tmp_path: Path,
        tiny_stft: StftSpec,
    ) -> None:
        samples = make_signal(0, seconds=1.2345, num_channels=1)
        header = prepared("vocal", vocals=write_sound(tmp_path / "v.wav", samples)).header
        assert (header.name, header.kind, header.stft) == ("song", "vocal", tiny_stft)
        assert (header.num_channels, header.num_samples) == (1, 9876)
        assert header.num_frames == tiny_stft.num_frames(9876)

    def test_sources_are_identified_by_size_time_and_content(
        self, make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        path = write_sound(tmp_path / "v.wav", make_signal(0, num_channels=1, sample_rate=11025), 11025)
        identity = identify(Source(path=path, gain=-1.0), "vocals")
        assert (identity.role, identity.path, identity.gain) == ("vocals", str(path), -1.0)
        assert (identity.size_bytes, identity.modified_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
        assert identity.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (identity.sample_rate, identity.num_channels) == (11025, 1)


class TestStatistics:
    def statistics(self, header: TrackHeader, role: Role) -> tuple[float, float]:
        return header.statistics[role].peak, header.statistics[role].level_db

    def test_peaks_are_linear_magnitudes_of_the_stft_for_every_kind(
        self,
        prepared: Callable[..., CachedTrack],
        make_signal: Make,
        write_sound: Write,
        tmp_path: Path,
        tiny_stft: StftSpec,
    ) -> None:
        sound, voice = make_signal(0, level=0.3), make_signal(1)
        path = write_sound(tmp_path / "sound.wav", sound)
        mixture = write_sound(tmp_path / "mixture.wav", sound + voice)

        def largest(samples: FloatArray, rel: float = 1e-6) -> object:
            return pytest.approx(float(np.abs(stft(samples, tiny_stft)).max()), rel=rel)

        assert prepared("instrumental", instrumental=path).header.statistics["instrumental"].peak == largest(sound)
        assert prepared("vocal", vocals=path).header.statistics["vocals"].peak == largest(sound)
        pair = prepared("pair", mixture=mixture, instrumental=path).header
        assert set(pair.statistics) == {"mixture", "instrumental", "vocals"}
        assert pair.statistics["mixture"].peak == largest(sound + voice)
        assert pair.statistics["instrumental"].peak == largest(sound)
        assert pair.statistics["vocals"].peak == largest(voice, rel=1e-4)

    def test_a_full_scale_sine_has_a_quarter_of_the_window_and_minus_3_db(
        self, prepared: Callable[..., CachedTrack], write_sound: Write, tmp_path: Path
    ) -> None:
        time = np.arange(16000) / 8000
        path = write_sound(tmp_path / "v.wav", np.sin(2 * np.pi * 1000 * time).astype(np.float32)[None])
        statistics = prepared("vocal", vocals=path).header.statistics["vocals"]
        assert statistics.peak == pytest.approx(256 / 4, rel=1e-3)
        assert statistics.level_db == pytest.approx(-3.01, abs=0.02)
        assert statistics.sample_peak == pytest.approx(1.0)

    def test_silence_does_not_count_for_the_level_but_for_its_share(
        self, prepared: Callable[..., CachedTrack], write_sound: Write, tmp_path: Path
    ) -> None:
        samples = np.zeros((2, 128 * 100), np.float32)
        samples[:, 128 * 75 :] = 0.1
        statistics = prepared("vocal", vocals=write_sound(tmp_path / "v.wav", samples)).header.statistics["vocals"]
        assert statistics.silence_share == pytest.approx(0.75)
        assert statistics.level_db == pytest.approx(-20.0, abs=0.01)

    def test_clipping_is_the_share_of_samples_at_full_scale(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        samples = make_signal(0, seconds=1.0, level=0.01)
        samples[0, :160] = 1.0
        samples[1, :80] = -1.0
        header = prepared("vocal", vocals=write_sound(tmp_path / "v.wav", samples)).header
        assert header.statistics["vocals"].clipping_share == pytest.approx(240 / 16000)

    def test_equal_halves_have_silent_vocals(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        path = write_sound(tmp_path / "a.wav", make_signal(0))
        statistics = prepared("pair", mixture=path, instrumental=path).header.statistics["vocals"]
        assert statistics.peak == 0.0
        assert statistics.silence_share == 1.0
        assert statistics.level_db == -60.0


class TestSignals:
    def test_other_rates_become_the_caches(
        self, prepared: Callable[..., CachedTrack], write_sound: Write, tmp_path: Path
    ) -> None:
        for rate in (5512, 8000, 22050, 48000):
            time = np.arange(2 * rate) / rate
            path = write_sound(tmp_path / f"{rate}.wav", np.sin(2 * np.pi * 1000 * time).astype(np.float32)[None], rate)
            track = prepared("vocal", vocals=path)
            magnitude = np.abs(track.read_complex("vocals", 30, 60))
            assert track.header.num_samples == 16000
            assert (magnitude.argmax(axis=1) == 32).all()  # 1 kHz of bins of 31.25 Hz
            assert magnitude.max() == pytest.approx(64, rel=0.01)

    def test_a_mono_half_of_a_pair_becomes_as_wide_as_the_other(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        mono = write_sound(tmp_path / "i.wav", make_signal(0, num_channels=1))
        stereo = write_sound(tmp_path / "m.wav", make_signal(1))
        track = prepared("pair", mixture=stereo, instrumental=mono)
        left, right = track.read_complex("instrumental", 0, track.header.num_frames)
        assert track.header.num_channels == 2
        np.testing.assert_array_equal(left, right)

    def test_halves_of_a_pair_that_differ_a_little_are_cut_to_the_shorter(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        long = write_sound(tmp_path / "m.wav", make_signal(0, seconds=2.0))
        short = write_sound(tmp_path / "i.wav", make_signal(0, seconds=1.9))
        assert prepared("pair", mixture=long, instrumental=short).header.num_samples == 15200

    def test_halves_of_a_pair_may_have_different_rates(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        mixture = write_sound(tmp_path / "m.wav", make_signal(0, sample_rate=11025), 11025)
        instrumental = write_sound(tmp_path / "i.wav", make_signal(0, sample_rate=16000), 16000)
        assert prepared("pair", mixture=mixture, instrumental=instrumental).header.num_samples == 16000


class TestUnusable:
    @pytest.mark.parametrize(("damage", "message"), [
        (lambda samples: samples * np.nan, "has 32000 samples that are NaN or infinite; export it again"),
        (lambda samples: np.where(np.arange(16000) == 5, np.inf, samples), "has 2 samples that are NaN or infinite"),
        (lambda samples: np.where(np.arange(16000) == 5, -np.inf, samples), "has 2 samples that are NaN or infinite"),
        (lambda samples: samples * 1e15, r"has samples of up to .*e\+1\d, expected full scale to be 1"),
        (lambda samples: samples * 0, "is silent throughout"),
        (lambda samples: samples * 1e-4, "is silent throughout"),
        (lambda samples: samples[:, :3999], r"is 0\.50 s long, expected at least 0\.5 s \(--minimum-seconds\)"),
        (lambda samples: np.repeat(samples, 3, axis=0), "has 6 channels, expected mono or stereo; mix it down"),
    ])  # fmt: skip
    def test_the_reason_is_named_and_no_file_is_left(
        self,
        prepared: Callable[..., CachedTrack],
        make_signal: Make,
        write_sound: Write,
        tmp_path: Path,
        damage: Callable[[FloatArray], FloatArray],
        message: str,
    ) -> None:
        path = write_sound(tmp_path / "v.wav", damage(make_signal(0)).astype(np.float32))
        with pytest.raises(AudioError, match=f"^{message}"):
            prepared("vocal", vocals=path)
        assert not list(tmp_path.rglob("*.h5"))

    def test_the_half_of_a_pair_is_named(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        mixture = write_sound(tmp_path / "m.wav", make_signal(0))
        silent = write_sound(tmp_path / "i.wav", make_signal(0) * 0)
        with pytest.raises(AudioError, match=r"^its instrumental is silent throughout"):
            prepared("pair", mixture=mixture, instrumental=silent)

    def test_halves_of_different_length_are_refused_with_both_lengths(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        mixture = write_sound(tmp_path / "m.wav", make_signal(0, seconds=3.0))
        instrumental = write_sound(tmp_path / "i.wav", make_signal(0, seconds=2.0))
        message = (
            r"its halves differ in length \(mixture 3\.00 s and instrumental 2\.00 s\); expected the same recording"
        )
        with pytest.raises(AudioError, match=message):
            prepared("pair", mixture=mixture, instrumental=instrumental)

    def test_a_broken_file_is_named(self, prepared: Callable[..., CachedTrack], tmp_path: Path) -> None:
        (tmp_path / "v.wav").write_bytes(b"RIFF no wave")
        with pytest.raises(AudioError, match=rf"{tmp_path}/v\.wav: expected"):
            prepared("vocal", vocals=tmp_path / "v.wav")

    def test_a_file_that_is_gone_is_named(self, prepared: Callable[..., CachedTrack], tmp_path: Path) -> None:
        with pytest.raises((VrtoolError, OSError), match=r"v\.wav"):
            prepared("vocal", vocals=tmp_path / "v.wav")

    def test_loud_but_finite_sound_stays_finite_in_the_cache(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        track = prepared("vocal", vocals=write_sound(tmp_path / "v.wav", make_signal(0) * np.float32(2**31)))
        spectrogram = track.read_complex("vocals", 0, track.header.num_frames)
        assert np.isfinite(spectrogram).all()
        assert all(
            map(math.isfinite, (track.header.statistics["vocals"].peak, track.header.statistics["vocals"].level_db))
        )
