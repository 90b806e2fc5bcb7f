from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.ancestor_patches import find_patches
from vrtool.dataset.library import find_pairs
from vrtool.dataset.track import Source, Track
from vrtool.preparation.identity import finished_header, identify_sources
from vrtool.preparation.task import TrackTask
from vrtool.preparation.track import prepare_track

Make = Callable[..., FloatArray]
Write = Callable[..., Path]


@pytest.fixture
def task(task_for: Callable[..., TrackTask], make_signal: Make, write_sound: Write, tmp_path: Path) -> TrackTask:
    """A pair of two files that can be aligned, prepared."""
    instrumental = make_signal(0, seconds=4.0)
    write_sound(tmp_path / "pairs/song/instrumental.wav", instrumental)
    write_sound(tmp_path / "pairs/song/mixture.wav", instrumental + make_signal(1, seconds=4.0, level=0.05))
    (track,) = find_pairs(tmp_path / "pairs").tracks
    task = task_for(track)
    prepare_track(task)
    return task


def with_sources(task: TrackTask, change: Callable[[Source], Source]) -> TrackTask:
    sources = {role: tuple(map(change, sources)) for role, sources in task.track.sources.items()}
    return replace(task, track=replace(task.track, sources=sources))


class TestIdentifying:
    def test_sources_are_identified_by_size_time_and_content(
        self, make_signal: Make, write_sound: Write, tmp_path: Path, tiny_stft: StftSpec
    ) -> None:
        path = write_sound(tmp_path / "v.wav", make_signal(0, num_channels=1, sample_rate=11025), 11025)
        track = Track(name="v", kind="vocal", sources={"vocals": (Source(path=path, gain=-1.0),)})
        (identity,) = identify_sources(track, tiny_stft)
        assert (identity.role, identity.path, identity.gain) == ("vocals", str(path), -1.0)
        assert (identity.size_bytes, identity.modified_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
        assert identity.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (identity.sample_rate, identity.num_channels) == (11025, 1)

    def test_of_a_pair_the_stored_signals_count_with_each_of_their_files(self, task: TrackTask) -> None:
        found = [
            (source.role, Path(source.path).name, source.gain) for source in identify_sources(task.track, task.stft)
        ]
        assert found == [("mixture", "mixture.wav", 1.0), ("instrumental", "instrumental.wav", 1.0)]

    def test_a_patch_has_its_channels_and_the_rate_of_the_cache(self, tmp_path: Path, tiny_stft: StftSpec) -> None:
        np.savez(tmp_path / "song_p0.npz", X=np.ones((1, 129, 8), np.complex64), c=np.float32(1000.0))
        (track,) = find_patches(tmp_path).tracks
        (identity,) = identify_sources(track, tiny_stft)
        assert (identity.sample_rate, identity.num_channels) == (8000, 1)
        assert identity.sha256 == hashlib.sha256((tmp_path / "song_p0.npz").read_bytes()).hexdigest()


class TestFinished:
    def test_the_header_of_an_unchanged_track_is_found(self, task: TrackTask) -> None:
        header = finished_header(task)
        assert header is not None
        assert header.sources == identify_sources(task.track, task.stft)

    def test_a_file_that_is_not_there_is_not_finished(self, task: TrackTask) -> None:
        assert finished_header(replace(task, destination=task.destination.with_name("other.h5"))) is None

    @pytest.mark.parametrize("change", [
        lambda task: replace(task, stft=replace(task.stft, hop_length=64)),
        lambda task: replace(task, precision="float32"),
        lambda task: replace(task, align_pairs=False),
        lambda task: with_sources(task, lambda source: replace(source, gain=0.5 * source.gain)),
        lambda task: with_sources(task, lambda source: replace(source, path=source.path.with_suffix(".flac"))),
        lambda task: replace(task, track=replace(task.track, sources={
            **task.track.sources, "instrumental": task.track.sources["instrumental"] + task.track.sources["mixture"]
        })),
        lambda task: replace(task, track=replace(task.track, sources={**task.track.sources, "instrumental": ()})),
    ], ids=["stft", "precision", "alignment", "gain", "path", "one more", "one less"])  # fmt: skip
    def test_a_track_that_would_be_made_otherwise_is_not_finished(
        self, task: TrackTask, change: Callable[[TrackTask], TrackTask]
    ) -> None:
        assert finished_header(change(task)) is None

    def test_what_was_not_aligned_is_not_finished_where_it_shall_be(self, task: TrackTask) -> None:
        prepare_track(replace(task, align_pairs=False))
        assert finished_header(task) is None

    def test_where_nothing_can_be_aligned_it_does_not_matter_whether_it_shall_be(
        self, task: TrackTask, make_signal: Make, write_sound: Write
    ) -> None:
        song = task.track.sources["mixture"][0].path.parent
        (song / "mixture.wav").unlink()
        write_sound(song / "vocals.wav", make_signal(2, seconds=4.0))
        (track,) = find_pairs(song.parent).tracks
        header = prepare_track(replace(task, track=track))
        assert header.alignment is None
        for align_pairs in (True, False):
            assert finished_header(replace(task, track=track, align_pairs=align_pairs)) == header

    @pytest.mark.parametrize("damage", [b"", b"no track"])
    def test_a_damaged_file_is_not_finished(self, task: TrackTask, damage: bytes) -> None:
        task.destination.write_bytes(damage)
        assert finished_header(task) is None

    def test_a_touched_or_copied_source_is_the_same(self, task: TrackTask) -> None:
        path = task.track.sources["mixture"][0].path
        shutil.copyfile(path, path.with_name("copy"))
        path.with_name("copy").replace(path)
        os.utime(path, ns=(0, 0))
        assert finished_header(task) is not None

    @pytest.mark.parametrize("name", ["mixture.wav", "instrumental.wav"])
    @pytest.mark.parametrize("change", [
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content + b"\0",
    ], ids=["a bit", "a byte more"])  # fmt: skip
    def test_a_source_with_other_content_is_another(
        self, task: TrackTask, name: str, change: Callable[[bytes], bytes]
    ) -> None:
        path = task.track.sources["mixture"][0].path.with_name(name)
        path.write_bytes(change(path.read_bytes()))
        os.utime(path, ns=(0, 0))
        assert finished_header(task) is None
