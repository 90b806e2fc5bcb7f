from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.alignment import Alignment
from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.audio.waveform import FloatArray, read_audio
from vrtool.dataset.cache import Cache, CachedTrack, open_cache, read_manifest, write_manifest
from vrtool.dataset.header import TrackHeader, check_same_stft, header_from_json
from vrtool.dataset.rows import Precision
from vrtool.dataset.track import Role
from vrtool.dataset.track_file import MAX_OPEN_MAPS, PAGE_BYTES, read_header, write_track
from vrtool.errors import CacheError

QUIETER_THAN_DB: dict[Precision, float] = {"int16": -90.0, "float32": -130.0}
PART_BYTES: dict[Precision, int] = {"int16": 2, "float32": 4}
numbers = itertools.count()


@pytest.fixture
def copied_cache(small_cache: Cache, tmp_path: Path) -> Cache:
    """A copy of the small cache that a test may damage."""
    shutil.copytree(small_cache.path, tmp_path / "cache")
    return open_cache(tmp_path / "cache")


@pytest.fixture(params=["int16", "float32"])
def either_cache(request: pytest.FixtureRequest, small_cache: Cache, float_cache: Cache) -> Cache:
    """The small cache in each precision. Not to be changed."""
    return small_cache if request.param == "int16" else float_cache


@contextmanager
def damaged(track: CachedTrack, content: bytes) -> Iterator[CachedTrack]:
    """Give the track with another file of this content, under a name that was never read: maps are kept by name."""
    path = track.path.with_name(f"damaged-{next(numbers)}.bin")
    path.write_bytes(content)
    try:
        yield replace(track, path=path)
    finally:
        path.unlink()


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
        self, either_cache: Cache, small_library: Path, kind: str, name: str, role: Role
    ) -> None:
        track = find(either_cache, kind, name)
        folder = small_library / f"{kind}s"
        path = folder / name / f"{role}.wav" if kind == "pair" else folder / f"{name}.wav"
        expected = stft(read_audio(path).samples, either_cache.stft)
        for start, count in ((0, track.header.num_frames), (7, 20), (track.header.num_frames - 1, 1)):
            crop = track.read_complex(role, start, count)
            error = np.abs(crop - expected[..., start : start + count]).max(axis=1)
            peak = np.abs(expected[..., start : start + count]).max(axis=1)
            assert crop.shape == (track.header.num_channels, either_cache.stft.num_bins, count)
            assert (error <= 10 ** (QUIETER_THAN_DB[either_cache.precision] / 20) * peak).all()

    def test_a_pair_without_a_mixture_has_the_sum_of_its_parts(self, small_cache: Cache, small_library: Path) -> None:
        track = find(small_cache, "pair", "mono")
        parts = [read_audio(small_library / f"pairs/mono/{part}.wav").samples for part in ("instrumental", "vocals")]
        expected = stft(parts[0] + parts[1], small_cache.stft)
        np.testing.assert_allclose(
            track.read_complex("mixture", 0, track.header.num_frames), expected, atol=1e-4 * np.abs(expected).max()
        )

    def test_a_crop_is_a_read_only_map_and_no_copy(self, either_cache: Cache) -> None:
        track = find(either_cache, "instrumental", "stereo")
        rows, again = track.read("instrumental", 3, 10), track.read("instrumental", 3, 10)
        assert rows.shape == (10, 2)
        assert rows.dtype == track.header.row_type
        assert np.shares_memory(rows, again)
        assert not rows.flags.writeable
        assert rows.flags.c_contiguous

    @pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
    def test_no_more_files_are_held_open_than_systems_allow(self, small_cache: Cache, tmp_path: Path) -> None:
        track = find(small_cache, "instrumental", "short")
        content = track.path.read_bytes()
        before = len(list(Path("/proc/self/fd").iterdir()))
        for number in range(MAX_OPEN_MAPS + 20):
            (tmp_path / f"{number}.h5").write_bytes(content)
            replace(track, path=tmp_path / f"{number}.h5").read("instrumental", 0, 1)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + MAX_OPEN_MAPS


class TestFormat:
    def test_hdf5_reads_what_the_map_does_where_the_header_says(self, either_cache: Cache) -> None:
        for track in either_cache.tracks:
            with h5py.File(track.path, "r") as file:
                assert set(file) == set(track.header.storage)
                for role, stored in track.header.storage.items():
                    assert file[role].id.get_offset() == stored.offset_bytes
                    np.testing.assert_array_equal(file[role][:], track.read(role, 0, track.header.num_frames))

    def test_another_program_reads_it_with_hdf5_alone(self, either_cache: Cache) -> None:
        track = find(either_cache, "pair", "stereo")
        with h5py.File(track.path, "r") as file:
            peak, parts = file["mixture"]["peak"], file["mixture"]["parts"]
        assert json.loads(json.dumps(track.header.to_json()))["precision"] == either_cache.precision
        step = peak[:, :, None, None] / 32767 if either_cache.precision == "int16" else 1.0
        real, imaginary = np.moveaxis(parts * step, 2, 0)
        expected = track.read_complex("mixture", 0, track.header.num_frames)
        np.testing.assert_allclose((real + 1j * imaginary).transpose(1, 2, 0), expected, rtol=1e-6)

    def test_the_data_begins_on_a_page(self, either_cache: Cache) -> None:
        for track in either_cache.tracks:
            for stored in track.header.storage.values():
                assert stored.offset_bytes % PAGE_BYTES == 0

    def test_a_file_has_a_peak_and_two_parts_for_each_bin_and_little_else(self, either_cache: Cache) -> None:
        for track in either_cache.tracks:
            header = track.header
            rows = header.num_frames * header.num_channels * len(header.storage)
            row_bytes = 4 + 2 * PART_BYTES[either_cache.precision] * header.stft.num_bins
            assert rows * row_bytes < track.path.stat().st_size < rows * row_bytes + 8 * PAGE_BYTES

    def test_nothing_lies_in_the_heap_whose_damage_makes_hdf5_read_for_ever(self, either_cache: Cache) -> None:
        for track in either_cache.tracks:
            content, header = track.path.read_bytes(), track.header
            begin = min(stored.offset_bytes for stored in header.storage.values())
            assert begin < header.end_bytes
            assert b"GCOL" not in content[:begin] + content[header.end_bytes :]

    def test_a_header_of_any_length_is_stored(self, small_cache: Cache, tmp_path: Path) -> None:
        header = find(small_cache, "pair", "stereo").header
        source = replace(header.sources[0], path="x" * 4000)
        long = replace(header, sources=(source,) * 100, num_frames=1, num_channels=1)
        with write_track(
            tmp_path / "x.h5", roles=("mixture",), num_frames=1, num_channels=1, num_bins=9, precision="int16"
        ) as writer:
            writer.append("mixture", np.ones((1, 1, 9), np.complex64))
            writer.finish(long)
        assert read_header(tmp_path / "x.h5") == long

    def test_a_tracks_peaks_are_those_of_its_rows(self, either_cache: Cache) -> None:
        for track in either_cache.tracks:
            for role in track.header.storage:
                rows = track.read(role, 0, track.header.num_frames)
                assert track.header.statistics[role].peak == rows["peak"].max()

    def test_header_survives_json(self, either_cache: Cache) -> None:
        for track in either_cache.tracks:
            assert track.header.precision == either_cache.precision
            values = json.loads(json.dumps(track.header.to_json()))
            assert header_from_json(values, origin="here") == track.header
            assert read_header(track.path) == track.header

    @pytest.mark.parametrize("alignment", [None, Alignment(offset_samples=-3, gain=-0.25, confidence=0.75)])
    def test_an_alignment_survives_json(self, small_cache: Cache, alignment: Alignment | None) -> None:
        header = replace(small_cache.tracks[0].header, alignment=alignment)
        assert header_from_json(json.loads(json.dumps(header.to_json())), origin="here") == header

    def test_a_track_knows_the_library_it_comes_from(self, small_cache: Cache) -> None:
        assert find(small_cache, "vocal", "mono").library == "vocal/vocals"
        assert find(small_cache, "pair", "stereo").library == "pair/pairs"

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
    @pytest.mark.parametrize("precision", ["int16", "float32"])
    def test_nothing_is_left_of_a_track_whose_writing_fails(self, tmp_path: Path, precision: Precision) -> None:
        def write_and_fail() -> None:
            with write_track(
                tmp_path / "vocal/x.h5",
                roles=("vocals",),
                num_frames=64,
                num_channels=2,
                num_bins=9,
                precision=precision,
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
        with write_track(
            Path("x.h5"), roles=("vocals",), num_frames=320, num_channels=1, num_bins=129, precision="int16"
        ) as writer:
            for _ in range(num_blocks):
                writer.append("vocals", block)
    except OSError as error:
        print(error.filename, error.strerror, end="; ")
"""
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == "x.h5 File too large; " * 5
        assert done.stderr == ""
        assert list(tmp_path.iterdir()) == []


def flipped(content: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)


class TestVerification:
    def test_what_was_just_written_is_whole(self, either_cache: Cache) -> None:
        assert [track.verify() for track in either_cache.tracks] == [None] * len(either_cache.tracks)

    @settings(max_examples=40, deadline=None)
    @given(data=st.data(), precision=st.sampled_from(["int16", "float32"]))
    def test_one_flipped_bit_of_the_data_is_found(
        self, small_cache: Cache, float_cache: Cache, data: st.DataObject, precision: Precision
    ) -> None:
        track = data.draw(st.sampled_from((small_cache if precision == "int16" else float_cache).tracks))
        header = track.header
        role = data.draw(st.sampled_from(sorted(header.storage)))
        num_bytes = header.num_frames * header.num_channels * header.row_type.itemsize
        position = header.storage[role].offset_bytes + data.draw(st.integers(0, num_bytes - 1))
        with damaged(track, flipped(track.path.read_bytes(), position, data.draw(st.integers(0, 7)))) as other:
            assert other.verify() == f"the bytes of its {role} have changed since they were written"

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_a_bit_flipped_anywhere_is_found_or_changes_nothing(self, small_cache: Cache, data: st.DataObject) -> None:
        track = find(small_cache, "instrumental", "short")
        content = track.path.read_bytes()
        # Most draws among HDF5's own bytes before the data, of which few are used.
        begin = track.header.storage["instrumental"].offset_bytes
        used = [place for place in range(begin) if content[place]]
        position = data.draw(st.sampled_from(used) | st.integers(0, begin - 1) | st.integers(0, len(content) - 1))
        with damaged(track, flipped(content, position, data.draw(st.integers(0, 7)))) as other:
            if other.verify() is None:
                assert read_header(other.path) == track.header
                rows = track.read("instrumental", 0, track.header.num_frames)
                np.testing.assert_array_equal(other.read("instrumental", 0, len(rows)), rows)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_a_file_cut_short_anywhere_is_found_and_not_read_beyond_its_end(
        self, small_cache: Cache, data: st.DataObject
    ) -> None:
        track = data.draw(st.sampled_from(small_cache.tracks))
        content = track.path.read_bytes()
        length = data.draw(st.integers(0, len(content) - 1) | st.integers(0, PAGE_BYTES))
        with damaged(track, content[:length]) as other:
            assert other.verify() == "it is no track of a vrtool cache, or not a whole one"
            for role, stored in track.header.storage.items():
                num_bytes = track.header.num_frames * track.header.num_channels * track.header.row_type.itemsize
                if length < stored.offset_bytes + num_bytes:
                    with pytest.raises(CacheError, match=rf"{other.path.name}: expected .* bytes of a track, found"):
                        other.read(role, 0, track.header.num_frames)
                else:
                    rows = track.read(role, 0, track.header.num_frames)
                    np.testing.assert_array_equal(other.read(role, 0, len(rows)), rows)

    def test_a_missing_file_is_found(self, copied_cache: Cache) -> None:
        track = copied_cache.tracks[0]
        track.path.unlink()
        assert track.verify() == "it is missing"

    def test_a_file_that_went_missing_is_named_when_it_is_read(self, copied_cache: Cache) -> None:
        track = copied_cache.tracks[0]
        track.path.unlink()
        with pytest.raises(CacheError, match=rf"{track.path.name}: expected .*found a file that cannot be read"):
            track.read(track.header.main_role, 0, 1)

    def test_another_tracks_file_is_found(self, copied_cache: Cache) -> None:
        first, second = copied_cache.tracks[:2]
        shutil.copy(second.path, first.path)
        assert first.verify() == "its header differs from the manifest's"

    def test_a_file_made_good_again_is_whole(self, copied_cache: Cache, small_cache: Cache) -> None:
        track = copied_cache.tracks[0]
        offset = track.header.storage[track.header.main_role].offset_bytes
        track.path.write_bytes(flipped(track.path.read_bytes(), offset, 0))
        assert track.verify() is not None
        replacement = track.path.with_name("replacement")
        shutil.copy(small_cache.tracks[0].path, replacement)
        replacement.replace(track.path)
        assert track.verify() is None


def places_in(values: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the keys and indices that lead to each value within JSON values, the whole first."""
    yield ()
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from ((key, *place) for place in places_in(value))


class TestOpening:
    def test_a_folder_without_manifest_is_no_cache(self, tmp_path: Path) -> None:
        with pytest.raises(CacheError, match=r"expected a cache with a manifest\.json, found none; make one"):
            open_cache(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"null", b"[]", b'{"tracks": []}'])
    def test_a_manifest_that_is_none_is_refused_by_name(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "manifest.json").write_bytes(content)
        with pytest.raises(CacheError, match=r"manifest\.json: expected"):
            open_cache(tmp_path)

    @pytest.mark.parametrize("change", ["tracks", "stft", "precision", "validation"])
    def test_a_manifest_with_a_part_missing_is_refused(self, copied_cache: Cache, change: str) -> None:
        path = copied_cache.path / "manifest.json"
        values = json.loads(path.read_text())
        del values[change]
        path.write_text(json.dumps(values))
        with pytest.raises(CacheError, match=rf"manifest\.json: it lacks or misspells '{change}'; delete it"):
            open_cache(copied_cache.path)

    @pytest.mark.parametrize("version", [1, 3])
    def test_an_older_or_newer_format_is_refused_by_its_version(self, copied_cache: Cache, version: int) -> None:
        path = copied_cache.path / "manifest.json"
        path.write_text(path.read_text().replace('"format_version": 2', f'"format_version": {version}'))
        message = f"expected cache format version 2, found {version}; use the vrtool that wrote it"
        with pytest.raises(CacheError, match=message):
            open_cache(copied_cache.path)

    @pytest.mark.parametrize("value", [None, 1.5, -1, "x", [], {}, "missing"])
    def test_whatever_a_manifest_holds_it_is_a_cache_or_refused_by_name(
        self, copied_cache: Cache, value: object
    ) -> None:
        path = copied_cache.path / "manifest.json"
        whole = json.loads(path.read_text())
        whole["tracks"] = [entry for entry in whole["tracks"] if entry["path"].startswith("pair/stereo")]
        places = [place for place in places_in(whole) if place]
        assert len(places) > 50
        for *inside, last in places:
            values = json.loads(json.dumps(whole))
            owner: Any = values
            for key in inside:
                owner = owner[key]
            if value == "missing":
                del owner[last]
            else:
                owner[last] = value
            path.write_text(json.dumps(values))
            try:
                tracks = open_cache(copied_cache.path).tracks
            except CacheError as error:
                assert str(copied_cache.path) in str(error)  # noqa: PT017  # that there is an error is no claim
            else:
                assert [(track.header.end_bytes > 0, track.header.duration_seconds > 0) for track in tracks] == [
                    (True, True)
                ]

    def test_a_track_that_is_gone_is_named(self, copied_cache: Cache) -> None:
        track = copied_cache.tracks[2]
        track.path.unlink()
        with pytest.raises(CacheError, match=rf"{track.path.name} is in the manifest but not on disk"):
            open_cache(copied_cache.path)

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999, None])
    def test_a_track_that_was_cut_short_is_named(self, copied_cache: Cache, share: float | None) -> None:
        track = copied_cache.tracks[2]
        end = track.header.end_bytes
        with track.path.open("rb+") as file:
            file.truncate(end - 1 if share is None else int(end * share))
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

    @pytest.mark.parametrize("attribute", [
        None, 3, "no json", "{}", '{"format_version": 2}', '{"format_version": 1}', b"\xff\xfe", [1, 2],
        h5py.Empty("f4"), "null", "[]",
    ])  # fmt: skip
    def test_a_foreign_hdf5_file_is_no_track(self, tmp_path: Path, attribute: object) -> None:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            if attribute is not None:
                file.attrs["vrtool"] = attribute
        with pytest.raises(CacheError, match=r"x\.h5: "):
            read_header(tmp_path / "x.h5")

    @pytest.mark.parametrize(("field", "value"), [
        ("stft", {"sample_rate": 8000, "n_fft": 7, "hop_length": 4}), ("stft", None), ("precision", "int8"),
        ("precision", None), ("num_frames", -1), ("num_channels", 0), ("num_samples", "16000"), ("storage", {}),
        ("storage", {"mixture": {"offset_bytes": "4096", "crc32": 0}}), ("statistics", []), ("alignment", [1]),
    ])  # fmt: skip
    def test_a_header_with_an_impossible_value_is_refused_by_the_files_name(
        self, small_cache: Cache, field: str, value: object
    ) -> None:
        values = small_cache.tracks[0].header.to_json() | {field: value}
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
    def test_a_cache_in_use_pickles_without_handles_or_data(self, either_cache: Cache) -> None:
        for track in either_cache.tracks:
            track.read(track.header.main_role, 0, 1)
            assert len(pickle.dumps(track)) < 2000
        assert pickle.loads(pickle.dumps(either_cache)) == either_cache

    def test_an_unpickled_track_reads_what_the_first_does(self, small_cache: Cache) -> None:
        for track in small_cache.tracks:
            role, other = track.header.main_role, pickle.loads(pickle.dumps(track))
            np.testing.assert_array_equal(other.read(role, 0, 20), track.read(role, 0, 20))


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
