from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.audio.waveform import FloatArray, read_audio
from vrtool.dataset.cache import Cache, CachedTrack, open_cache, read_manifest, write_manifest
from vrtool.dataset.header import TrackHeader, check_same_stft, header_from_json
from vrtool.dataset.track_file import PAGE_BYTES, read_header, write_track
from vrtool.errors import CacheError

QUIETER_THAN_DB = -80.0


@pytest.fixture
def copied_cache(small_cache: Cache, tmp_path: Path) -> Cache:
    """A copy of the small cache that a test may damage."""
    shutil.copytree(small_cache.path, tmp_path / "cache")
    return open_cache(tmp_path / "cache")


def find(cache: Cache, kind: str, name: str) -> CachedTrack:
    return next(track for track in cache.tracks if (track.header.kind, track.header.name) == (kind, name))


class TestCrops:
    @pytest.mark.parametrize(("kind", "name", "role"), [
        ("instrumental", "stereo", "instrumental"),
        ("instrumental", "mono", "instrumental"),
        ("vocal", "short", "vocals"),
        ("pair", "stereo", "mixture"),
        ("pair", "stereo", "instrumental"),
    ])  # fmt: skip
    def test_a_crop_is_the_stft_of_the_audio(
        self, small_cache: Cache, small_library: Path, kind: str, name: str, role: str
    ) -> None:
        track = find(small_cache, kind, name)
        folder = small_library / f"{kind}s"
        path = folder / name / f"{role}.wav" if kind == "pair" else folder / f"{name}.wav"
        expected = stft(read_audio(path).samples, small_cache.stft)
        for start, count in ((0, track.header.num_frames), (7, 20), (track.header.num_frames - 1, 1)):
            crop = track.read_complex(role, start, count)  # type: ignore[arg-type]
            error = np.abs(crop - expected[..., start : start + count]).max(axis=1)
            peak = np.abs(expected[..., start : start + count]).max(axis=1)
            assert crop.shape == (track.header.num_channels, small_cache.stft.num_bins, count)
            assert (20 * np.log10(error / peak) < QUIETER_THAN_DB).all()

    def test_a_pair_without_a_mixture_has_the_sum_of_its_parts(self, small_cache: Cache, small_library: Path) -> None:
        track = find(small_cache, "pair", "mono")
        parts = [read_audio(small_library / f"pairs/mono/{part}.wav").samples for part in ("instrumental", "vocals")]
        expected = stft(parts[0] + parts[1], small_cache.stft)
        np.testing.assert_allclose(
            track.read_complex("mixture", 0, track.header.num_frames), expected, atol=1e-4 * np.abs(expected).max()
        )

    def test_a_crop_is_a_read_only_map_and_no_copy(self, small_cache: Cache) -> None:
        track = find(small_cache, "instrumental", "stereo")
        values, scale = track.read("instrumental", 3, 10)
        again, _ = track.read("instrumental", 3, 10)
        assert np.shares_memory(values, again)
        assert not values.flags.writeable
        assert not scale.flags.writeable
        assert values.flags.c_contiguous


class TestFormat:
    def test_hdf5_reads_what_the_map_does_where_the_header_says(self, small_cache: Cache) -> None:
        for track in small_cache.tracks:
            with h5py.File(track.path, "r") as file:
                for role, stored in track.header.storage.items():
                    values, scale = track.read(role, 0, track.header.num_frames)
                    spectrogram = file[f"{role}/spectrogram"]
                    assert spectrogram.id.get_offset() == stored.spectrogram_offset_bytes
                    np.testing.assert_array_equal(spectrogram[:], values)
                    np.testing.assert_array_equal(file[f"{role}/scale"][:], scale)

    def test_the_data_begins_on_a_page(self, small_cache: Cache) -> None:
        for track in small_cache.tracks:
            for stored in track.header.storage.values():
                assert stored.spectrogram_offset_bytes % PAGE_BYTES == 0
                assert stored.scale_offset_bytes % PAGE_BYTES == 0

    def test_a_file_has_two_bytes_for_each_part_and_little_else(self, small_cache: Cache) -> None:
        for track in small_cache.tracks:
            header = track.header
            rows = header.num_frames * header.num_channels * len(header.storage)
            assert track.path.stat().st_size < rows * (4 * header.stft.num_bins + 4) + 12 * PAGE_BYTES

    def test_header_survives_json(self, small_cache: Cache) -> None:
        for track in small_cache.tracks:
            values = json.loads(json.dumps(track.header.to_json()))
            assert header_from_json(values, origin="here") == track.header
            assert read_header(track.path) == track.header

    def test_manifest_survives_being_written_and_read(self, copied_cache: Cache) -> None:
        write_manifest(copied_cache)
        assert read_manifest(copied_cache.path) == copied_cache

    def test_a_path_that_is_not_valid_unicode_fits_into_the_manifest(self, copied_cache: Cache) -> None:
        first, *rest = copied_cache.tracks
        source = replace(first.header.sources[0], path=os.fsdecode(b"/music/caf\xe9.wav"))
        renamed = replace(first, header=replace(first.header, sources=(source,)))
        cache = replace(copied_cache, tracks=(renamed, *rest))
        write_manifest(cache)
        assert read_manifest(cache.path) == cache


class TestWriting:
    def test_nothing_is_left_of_a_track_whose_writing_fails(self, tmp_path: Path) -> None:
        def write_and_fail() -> None:
            with write_track(
                tmp_path / "vocal/x.h5", roles=("vocals",), num_frames=64, num_channels=2, num_bins=9
            ) as writer:
                writer.append("vocals", np.ones((2, 32, 9), np.complex64))
                raise RuntimeError("the decoder broke")

        with pytest.raises(RuntimeError, match="the decoder broke"):
            write_and_fail()
        assert list((tmp_path / "vocal").iterdir()) == []

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
    def test_a_file_that_cannot_grow_is_an_os_error_and_leaves_nothing(self, tmp_path: Path) -> None:
        # In a process of its own: HDF5 that meets such an error takes its process down at the end.
        program = """
import resource, sys
from pathlib import Path
import numpy as np
from vrtool.dataset.track_file import write_track
block = np.ones((1, 32, 129), np.complex64)
# The last one meets its limit when HDF5 closes the file.
for num_blocks, limit_bytes in ((10, 0), (10, 5000), (10, 40_000), (10, 130_000), (0, 130_000)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    try:
        with write_track(Path("x.h5"), roles=("vocals",), num_frames=320, num_channels=1, num_bins=129) as writer:
            for _ in range(num_blocks):
                writer.append("vocals", block)
    except OSError as error:
        print(error.filename, error.strerror, end="; ")
"""
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == "x.h5 File too large; " * 5
        assert done.stderr == ""
        assert list(tmp_path.iterdir()) == []


class TestVerification:
    def test_what_was_just_written_is_whole(self, small_cache: Cache) -> None:
        assert [track.verify() for track in small_cache.tracks] == [None] * len(small_cache.tracks)

    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def test_one_flipped_bit_of_the_data_is_found(self, small_cache: Cache, data: st.DataObject) -> None:
        track = data.draw(st.sampled_from(small_cache.tracks))
        header = track.header
        role = data.draw(st.sampled_from(sorted(header.storage)))
        rows = header.num_frames * header.num_channels
        stored = header.storage[role]
        start, length = data.draw(
            st.sampled_from(
                [
                    (stored.spectrogram_offset_bytes, rows * header.stft.num_bins * 4),
                    (stored.scale_offset_bytes, rows * 4),
                ]
            )
        )
        position = start + data.draw(st.integers(0, length - 1))
        content = bytearray(track.path.read_bytes())
        content[position] ^= 1 << data.draw(st.integers(0, 7))
        damaged = track.path.with_name("damaged.bin")
        damaged.write_bytes(content)
        try:
            assert (
                replace(track, path=damaged).verify() == f"the bytes of its {role} have changed since they were written"
            )
        finally:
            damaged.unlink()

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_a_bit_flipped_anywhere_is_found_or_changes_nothing(self, small_cache: Cache, data: st.DataObject) -> None:
        track = find(small_cache, "instrumental", "short")
        content = bytearray(track.path.read_bytes())
        # Half of the draws among HDF5's own bytes at the beginning, which are few.
        end = data.draw(st.sampled_from([track.header.storage["instrumental"].spectrogram_offset_bytes, len(content)]))
        content[data.draw(st.integers(0, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
        damaged = track.path.with_name("damaged.bin")
        damaged.write_bytes(content)
        try:
            other = replace(track, path=damaged)
            if other.verify() is None:
                assert read_header(damaged) == track.header
                for one, two in zip(
                    track.read("instrumental", 0, track.header.num_frames),
                    other.read("instrumental", 0, track.header.num_frames),
                    strict=True,
                ):
                    np.testing.assert_array_equal(one, two)
        finally:
            damaged.unlink()

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
    def test_a_truncated_file_is_found(self, copied_cache: Cache, share: float) -> None:
        track = copied_cache.tracks[0]
        with track.path.open("rb+") as file:
            file.truncate(int(track.path.stat().st_size * share))
        assert track.verify() == "it is no track of a vrtool cache, or not a whole one"

    def test_a_missing_file_is_found(self, copied_cache: Cache) -> None:
        track = copied_cache.tracks[0]
        track.path.unlink()
        assert track.verify() == "it is missing"

    def test_another_tracks_file_is_found(self, copied_cache: Cache) -> None:
        first, second = copied_cache.tracks[:2]
        shutil.copy(second.path, first.path)
        assert first.verify() == "its header differs from the manifest's"

    def test_a_file_made_good_again_is_whole(self, copied_cache: Cache, small_cache: Cache) -> None:
        track = copied_cache.tracks[0]
        offset = track.header.storage[track.header.main_role].spectrogram_offset_bytes
        content = bytearray(track.path.read_bytes())
        content[offset] ^= 1
        track.path.write_bytes(content)
        assert track.verify() is not None
        replacement = track.path.with_name("replacement")
        shutil.copy(small_cache.tracks[0].path, replacement)
        replacement.replace(track.path)
        assert track.verify() is None


class TestOpening:
    def test_a_folder_without_manifest_is_no_cache(self, tmp_path: Path) -> None:
        with pytest.raises(CacheError, match=r"expected a cache with a manifest\.json, found none; make one"):
            open_cache(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"null", b"[]", b'{"tracks": []}'])
    def test_a_manifest_that_is_none_is_refused_by_name(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "manifest.json").write_bytes(content)
        with pytest.raises(CacheError, match=r"manifest\.json: expected"):
            open_cache(tmp_path)

    @pytest.mark.parametrize("change", ["tracks", "stft", "validation"])
    def test_a_manifest_with_a_part_missing_is_refused(self, copied_cache: Cache, change: str) -> None:
        path = copied_cache.path / "manifest.json"
        values = json.loads(path.read_text())
        del values[change]
        path.write_text(json.dumps(values))
        with pytest.raises(CacheError, match=rf"manifest\.json: it lacks or misspells '{change}'; delete it"):
            open_cache(copied_cache.path)

    def test_a_newer_format_is_refused_by_its_version(self, copied_cache: Cache) -> None:
        path = copied_cache.path / "manifest.json"
        path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
        with pytest.raises(CacheError, match="expected cache format version 1, found 2; use the vrtool that wrote it"):
            open_cache(copied_cache.path)

    def test_a_track_that_is_gone_is_named(self, copied_cache: Cache) -> None:
        track = copied_cache.tracks[2]
        track.path.unlink()
        with pytest.raises(CacheError, match=rf"{track.path.name} is in the manifest but not on disk"):
            open_cache(copied_cache.path)

    def test_a_track_that_was_cut_short_is_named(self, copied_cache: Cache) -> None:
        track = copied_cache.tracks[2]
        with track.path.open("rb+") as file:
            file.truncate(track.header.end_bytes - 1)
        with pytest.raises(CacheError, match=rf"{track.path.name}: expected at least .* the file was cut short"):
            open_cache(copied_cache.path)

    def test_a_cache_without_tracks_says_so(self, copied_cache: Cache) -> None:
        write_manifest(replace(copied_cache, tracks=()))
        with pytest.raises(CacheError, match="found none prepared yet; run vrtool prepare"):
            open_cache(copied_cache.path)

    @pytest.mark.parametrize("content", [b"", b"no HDF5 at all", bytes(10_000)])
    def test_a_foreign_file_is_no_track(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.h5").write_bytes(content)
        with pytest.raises(CacheError, match=r"x\.h5: expected a track of a vrtool cache, found a damaged or foreign"):
            read_header(tmp_path / "x.h5")

    @pytest.mark.parametrize("attribute", [None, 3, "no json", "{}", '{"format_version": 1}', b"\xff\xfe"])
    def test_a_foreign_hdf5_file_is_no_track(self, tmp_path: Path, attribute: object) -> None:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            if attribute is not None:
                file.attrs["vrtool"] = attribute
        with pytest.raises(CacheError, match=r"x\.h5: "):
            read_header(tmp_path / "x.h5")

    def test_a_header_with_an_impossible_stft_is_refused_by_the_files_name(self, small_cache: Cache) -> None:
        values = small_cache.tracks[0].header.to_json()
        values["stft"]["n_fft"] = 7
        with pytest.raises(CacheError, match=r"^x\.h5: its header is not one of vrtool's"):
            header_from_json(values, origin="x.h5")


class TestSettings:
    @pytest.mark.parametrize(("setting", "value", "option"), [
        ("sample_rate", 44100, "--sample-rate"), ("n_fft", 512, "--n-fft"), ("hop_length", 64, "--hop-length"),
    ])  # fmt: skip
    def test_the_setting_that_differs_is_named(
        self, tiny_stft: StftSpec, setting: str, value: int, option: str
    ) -> None:
        wanted = replace(tiny_stft, **{setting: value})
        found = getattr(tiny_stft, setting)
        message = (
            f"^c was made with {setting} {found}, the recipe says {value}; prepare another cache with {option} {value}"
        )
        with pytest.raises(CacheError, match=message):
            check_same_stft(tiny_stft, wanted, origin="c", wanted_by="the recipe says")

    def test_the_same_settings_are_fine(self, tiny_stft: StftSpec) -> None:
        check_same_stft(tiny_stft, replace(tiny_stft), origin="c", wanted_by="the recipe says")


class TestPickling:
    def test_a_cache_in_use_pickles_without_handles_or_data(self, small_cache: Cache) -> None:
        for track in small_cache.tracks:
            track.read(track.header.main_role, 0, 1)
        pickled = pickle.dumps(small_cache)
        assert pickle.loads(pickled) == small_cache
        assert len(pickled) < 2000 * len(small_cache.tracks)


def test_a_file_replaced_while_it_is_mapped_is_read_anew(
    copied_cache: Cache,
    make_signal: Callable[..., FloatArray],
    write_sound: Callable[..., Path],
    run_prepare: Callable[..., object],
    tmp_path: Path,
) -> None:
    def prepared(seed: int) -> tuple[CachedTrack, FloatArray]:
        sound = make_signal(seed, seconds=1.0 + seed)
        write_sound(tmp_path / "vocals/song.wav", sound)
        run_prepare(tmp_path / "other", vocals=[tmp_path / "vocals"], stft=copied_cache.stft)
        return open_cache(tmp_path / "other").tracks[0], sound

    for seed in (1, 2):
        track, sound = prepared(seed)
        crop = track.read_complex("vocals", 0, track.header.num_frames)
        np.testing.assert_allclose(crop, stft(sound, copied_cache.stft), atol=1e-3 * np.abs(crop).max())


def test_header_tells_its_length_and_where_it_ends(small_cache: Cache) -> None:
    header: TrackHeader = find(small_cache, "instrumental", "stereo").header
    assert header.duration_seconds == pytest.approx(3.0)
    assert header.num_frames == small_cache.stft.num_frames(header.num_samples)
    assert header.end_bytes <= find(small_cache, "instrumental", "stereo").path.stat().st_size
