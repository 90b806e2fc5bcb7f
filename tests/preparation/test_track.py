from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from vrtool.audio.spectrogram import ComplexArray, StftSpec, stft
from vrtool.audio.waveform import FloatArray, Waveform, resample
from vrtool.dataset.cache import CachedTrack
from vrtool.dataset.header import TrackHeader
from vrtool.dataset.song_folder import subtracted
from vrtool.dataset.track import Kind, Role, Source, Track
from vrtool.dataset.track_file import read_header
from vrtool.errors import AudioError, VrtoolError
from vrtool.preparation.task import TrackTask
from vrtool.preparation.track import prepare_track

ROLES: tuple[Role, ...] = get_args(Role)

Make = Callable[..., FloatArray]
Write = Callable[..., Path]


@pytest.fixture
def task_of(task_for: Callable[..., TrackTask]) -> Callable[..., TrackTask]:
    """`task_of(kind, role=path or paths, ...)` is the task to prepare these files; settings as for `task_for`."""

    def task(kind: Kind, **given: Any) -> TrackTask:
        sources: dict[Role, tuple[Source, ...]] = {}
        for role in ROLES:
            if role in given:
                paths = given.pop(role)
                sources[role] = tuple(Source(path=path) for path in (paths if isinstance(paths, tuple) else (paths,)))
        if kind == "pair" and "vocals" not in sources:
            sources["vocals"] = sources["mixture"] + subtracted(sources["instrumental"])
        if kind == "pair" and "instrumental" not in sources:
            sources["instrumental"] = sources["mixture"] + subtracted(sources["vocals"])
        if kind == "pair" and "mixture" not in sources:
            sources["mixture"] = sources["instrumental"] + sources["vocals"]
        return task_for(Track(name="song", kind=kind, sources=sources), **given)

    return task


@pytest.fixture
def prepared(task_of: Callable[..., TrackTask]) -> Callable[..., CachedTrack]:
    """`prepared(kind, role=path or paths, ...)` prepares one track of these files and returns it."""

    def prepare(kind: Kind, **settings: object) -> CachedTrack:
        task = task_of(kind, **settings)
        task.destination.unlink(missing_ok=True)
        return CachedTrack(path=task.destination, header=prepare_track(task), split="training")

    return prepare


def spectrogram(track: CachedTrack, role: Role) -> ComplexArray:
    return track.read_complex(role, 0, track.header.num_frames)


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
        assert (header.name, header.library, header.kind, header.stft) == ("song", "songs", "vocal", tiny_stft)
        assert (header.precision, header.alignment) == ("int16", None)
        assert (header.num_channels, header.num_samples) == (1, 9876)
        assert header.num_frames == tiny_stft.num_frames(9876)


class TestFinished:
    def test_a_finished_file_of_unchanged_sources_is_left_as_it_is(
        self, task_of: Callable[..., TrackTask], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        task = task_of("vocal", vocals=write_sound(tmp_path / "v.wav", make_signal(0)))
        header = prepare_track(task)
        before = task.destination.stat()
        assert prepare_track(task) == header
        assert (task.destination.stat().st_ino, task.destination.stat().st_mtime_ns) == (
            before.st_ino,
            before.st_mtime_ns,
        )

    def test_a_file_of_other_sources_is_replaced(
        self, task_of: Callable[..., TrackTask], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        task = task_of("vocal", vocals=write_sound(tmp_path / "v.wav", make_signal(0)))
        prepare_track(task)
        write_sound(tmp_path / "v.wav", make_signal(1, seconds=1.0))
        assert prepare_track(task).num_samples == 8000
        assert read_header(task.destination).num_samples == 8000

    def test_nothing_but_the_file_is_left(
        self, task_of: Callable[..., TrackTask], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        task = task_of("vocal", vocals=write_sound(tmp_path / "v.wav", make_signal(0)))
        prepare_track(task)
        assert list(task.destination.parent.iterdir()) == [task.destination]


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
        mixture, instrumental = (write_sound(tmp_path / name, make_signal(0)) for name in ("m.wav", "i.wav"))
        statistics = prepared("pair", mixture=mixture, instrumental=instrumental).header.statistics["vocals"]
        assert statistics.peak == 0.0
        assert statistics.silence_share == 1.0
        assert statistics.level_db == -60.0

    def test_peaks_and_clipping_of_samples_are_those_of_the_files_whatever_becomes_of_them(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        samples = make_signal(0, sample_rate=24000, level=0.01)
        samples[0, 480:720] = np.tile([1.0, -1.0], 120)  # 12 kHz, of which nothing is left at 8000 Hz
        path = write_sound(tmp_path / "v.wav", samples, 24000)
        statistics = prepared("vocal", vocals=path).header.statistics["vocals"]
        assert statistics.sample_peak == 1.0
        assert statistics.clipping_share == pytest.approx(240 / samples.size)
        assert statistics.peak < 6.0

    def test_the_last_hop_counts_though_it_is_not_whole(
        self, prepared: Callable[..., CachedTrack], write_sound: Write, tmp_path: Path
    ) -> None:
        samples = np.zeros((1, 128 * 99 + 1), np.float32)
        samples[:, -1] = 0.1
        samples[:, :128] = 0.002
        statistics = prepared("vocal", vocals=write_sound(tmp_path / "v.wav", samples)).header.statistics["vocals"]
        assert statistics.silence_share == pytest.approx(0.98)
        assert statistics.level_db == pytest.approx(10 * math.log10((0.1**2 + 0.002**2) / 2), abs=0.01)


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

    @pytest.mark.parametrize("num_channels", [1, 2])
    @pytest.mark.parametrize("num_samples", [4000, 65_536, 150_001])  # the decoder's blocks have 65,536
    def test_float32_keeps_every_bit_of_the_stft(
        self,
        prepared: Callable[..., CachedTrack],
        make_signal: Make,
        write_sound: Write,
        tmp_path: Path,
        tiny_stft: StftSpec,
        num_channels: int,
        num_samples: int,
    ) -> None:
        samples = make_signal(0, seconds=num_samples / 8000, num_channels=num_channels)
        track = prepared("vocal", vocals=write_sound(tmp_path / "v.wav", samples), precision="float32")
        np.testing.assert_array_equal(spectrogram(track, "vocals"), stft(samples, tiny_stft))

    def test_a_long_file_of_another_rate_is_as_if_it_were_resampled_whole(
        self,
        prepared: Callable[..., CachedTrack],
        make_signal: Make,
        write_sound: Write,
        tmp_path: Path,
        tiny_stft: StftSpec,
    ) -> None:
        samples = make_signal(0, seconds=20.0, sample_rate=11025)
        track = prepared("vocal", vocals=write_sound(tmp_path / "v.wav", samples, 11025), precision="float32")
        whole = resample(Waveform(samples=samples, sample_rate=11025), 8000)
        assert track.header.num_samples == whole.num_samples == 160_000
        np.testing.assert_allclose(spectrogram(track, "vocals"), stft(whole.samples, tiny_stft), atol=1e-5)

    @pytest.mark.parametrize("roles", [
        {"mixture": ("mixture",), "instrumental": ("drums", "bass", "other")},
        {"mixture": ("mixture",), "instrumental": ("instrumental",)},
        {"mixture": ("mixture",), "vocals": ("vocals",)},
        {"instrumental": ("drums", "bass", "other"), "vocals": ("vocals",)},
        {"instrumental": ("instrumental",), "vocals": ("vocals",)},
        {"mixture": ("mixture",), "instrumental": ("instrumental",), "vocals": ("vocals",)},
    ], ids=lambda roles: " ".join(name for names in roles.values() for name in names))  # fmt: skip
    def test_a_pair_is_the_same_whichever_files_it_is_made_of(
        self,
        prepared: Callable[..., CachedTrack],
        make_signal: Make,
        write_sound: Write,
        tmp_path: Path,
        tiny_stft: StftSpec,
        roles: dict[Role, tuple[str, ...]],
    ) -> None:
        stems = {
            name: make_signal(seed, seconds=10.0, level=0.05)
            for seed, name in enumerate(("drums", "bass", "other", "vocals"))
        }
        instrumental = stems["drums"] + stems["bass"] + stems["other"]
        signals = {**stems, "instrumental": instrumental, "mixture": instrumental + stems["vocals"]}
        files = {
            role: tuple(write_sound(tmp_path / f"{name}.wav", signals[name]) for name in names)
            for role, names in roles.items()
        }
        track = prepared("pair", **files, precision="float32")
        assert list(track.header.storage) == ["mixture", "instrumental"]
        for role in track.header.storage:
            np.testing.assert_allclose(spectrogram(track, role), stft(signals[role], tiny_stft), atol=1e-4)
        assert set(track.header.statistics) == {"mixture", "instrumental", "vocals"}
        for role, statistics in track.header.statistics.items():
            assert statistics.peak == pytest.approx(float(np.abs(stft(signals[role], tiny_stft)).max()), rel=1e-4)
            hops = np.square(signals[role]).reshape(2, -1, 128).mean(axis=(0, 2))
            assert statistics.level_db == pytest.approx(10 * math.log10(hops[hops > 1e-6].mean()), abs=1e-3)
            assert statistics.silence_share == pytest.approx((hops <= 1e-6).mean())

    def test_a_mono_half_of_a_pair_becomes_as_wide_as_the_other(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        mono = make_signal(0, num_channels=1)
        track = prepared(
            "pair",
            mixture=write_sound(tmp_path / "m.wav", mono + make_signal(1, level=0.02)),
            instrumental=write_sound(tmp_path / "i.wav", mono),
        )
        left, right = track.read_complex("instrumental", 0, track.header.num_frames)
        assert track.header.num_channels == 2
        np.testing.assert_array_equal(left, right)

    @pytest.mark.parametrize("align_pairs", [True, False])
    def test_halves_of_a_pair_that_differ_a_little_are_cut_to_the_shorter(
        self,
        prepared: Callable[..., CachedTrack],
        make_signal: Make,
        write_sound: Write,
        tmp_path: Path,
        align_pairs: bool,
    ) -> None:
        samples = make_signal(0)
        long = write_sound(tmp_path / "m.wav", samples)
        short = write_sound(tmp_path / "i.wav", samples[:, :15200])
        track = prepared("pair", mixture=long, instrumental=short, align_pairs=align_pairs)
        assert track.header.num_samples == 15200

    def test_halves_of_a_pair_may_have_different_rates(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        low = Waveform(samples=make_signal(0), sample_rate=8000)
        paths = {
            role: write_sound(tmp_path / f"{role}.wav", resample(low, rate).samples, rate)
            for role, rate in (("mixture", 11025), ("instrumental", 16000))
        }
        track = prepared("pair", **paths, precision="float32")
        assert track.header.num_samples == 16000
        inside = slice(10, -10)  # the edges ring
        mixture, instrumental = (spectrogram(track, role)[..., inside] for role in track.header.storage)
        assert np.abs(mixture - instrumental)[:, :100].max() < 0.01 * np.abs(mixture).max()


class TestUnusable:
    @pytest.mark.parametrize(("damage", "message"), [
        (lambda samples: samples * np.nan, "has samples that are NaN or infinite; export it again"),
        (lambda samples: np.where(np.arange(16000) == 5, np.inf, samples), "has samples that are NaN or infinite"),
        (lambda samples: np.where(np.arange(16000) == 5, -np.inf, samples), "has samples that are NaN or infinite"),
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
        assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]

    def test_the_half_of_a_pair_is_named(
        self, prepared: Callable[..., CachedTrack], make_signal: Make, write_sound: Write, tmp_path: Path
    ) -> None:
        mixture = write_sound(tmp_path / "m.wav", make_signal(0))
        silent = write_sound(tmp_path / "i.wav", make_signal(0) * 0)
        with pytest.raises(AudioError, match=r"^its instrumental is silent throughout"):
            prepared("pair", mixture=mixture, instrumental=silent)

    @pytest.mark.parametrize(("align_pairs", "longer"), [(False, 2.6), (True, 12.1)])
    def test_halves_of_different_length_are_refused_with_both_lengths(
        self,
        prepared: Callable[..., CachedTrack],
        make_signal: Make,
        write_sound: Write,
        tmp_path: Path,
        align_pairs: bool,
        longer: float,
    ) -> None:
        samples = make_signal(0, seconds=longer)
        mixture = write_sound(tmp_path / "m.wav", samples)
        instrumental = write_sound(tmp_path / "i.wav", samples[:, :16000])
        lengths = rf"its halves differ in length \(mixture {longer:.2f} s and instrumental 2\.00 s\)"
        with pytest.raises(AudioError, match=f"{lengths}; expected the same recording with and without vocals"):
            prepared("pair", mixture=mixture, instrumental=instrumental, align_pairs=align_pairs)

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
        assert np.isfinite(spectrogram(track, "vocals")).all()
        assert all(
            map(math.isfinite, (track.header.statistics["vocals"].peak, track.header.statistics["vocals"].level_db))
        )
