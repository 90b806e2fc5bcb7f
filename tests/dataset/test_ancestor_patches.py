from __future__ import annotations

import io
import os
import pickle
import re
import sys
import tempfile
import tracemalloc
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.spectrogram import BLOCK_FRAMES, ComplexArray, StftSpec, stft
from vrtool.dataset.ancestor_patches import find_patches
from vrtool.dataset.npz_patch import read_patch_header
from vrtool.dataset.patch_frames import num_patch_frames, read_patch_frames
from vrtool.dataset.patch_names import named_stft
from vrtool.dataset.track import Discovery, Role, Track
from vrtool.errors import AudioError, InputError

PATCH_FRAMES = 8
Array = npt.NDArray[Any]


def spectrogram(seed: int, *, num_frames: int = 20, num_channels: int = 2, num_bins: int = 5) -> ComplexArray:
    """Noise of magnitudes up to about 100, far from zero in every frame."""
    rng = np.random.default_rng(seed)
    shape = (num_channels, num_bins, num_frames)
    phase = np.exp(2j * np.pi * rng.random(shape))
    return np.asarray(rng.uniform(1.0, 100.0, shape) * phase, np.complex64)


def cut(folder: Path, song: str, x: Array, y: Array | None = None, *, c: object, **others: object) -> list[Path]:
    """Write a song's patches as the ancestor does: in Fortran order, the last one filled up with zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, start in enumerate(range(0, x.shape[2], PATCH_FRAMES)):
        signals = {"X": x} if y is None else {"X": x, "Y": y}
        arrays: dict[str, Any] = {
            name: np.pad(
                np.asfortranarray(signal[:, :, start : start + PATCH_FRAMES]),
                ((0, 0), (0, 0), (0, max(0, start + PATCH_FRAMES - x.shape[2]))),
            )
            for name, signal in signals.items()
        }
        paths.append(folder / f"{song}_p{number}.npz")
        np.savez(paths[-1], c=c, **arrays, **others)  # type: ignore[arg-type]
    return paths


def instrumental(folder: Path, song: str = "song", *, num_frames: int = 20, seed: int = 0) -> list[Path]:
    x = spectrogram(seed, num_frames=num_frames)
    return cut(folder, song, x, c=np.abs(x).max().item())


def only_track(root: Path) -> Track:
    discovery = find_patches(root)
    assert discovery.problems == []
    (track,) = discovery.tracks
    return track


def only_problem(root: Path) -> tuple[str, str]:
    """The path, below `root`, and the reason of the one thing that is wrong; no track but "whole" is found."""
    discovery = find_patches(root)
    assert [track.name for track in discovery.tracks if track.name != "whole"] == []
    (problem,) = discovery.problems
    return Path(problem.path).relative_to(root).as_posix(), problem.reason


def kinds(discovery: Discovery) -> dict[str, str]:
    return {track.name: track.kind for track in discovery.tracks}


def paths_of(track: Track) -> list[Path]:
    role: Role = "vocals" if track.kind == "vocal" else "instrumental"
    return [source.path for source in track.sources[role]]


def joined(track: Track, role: Role) -> ComplexArray:
    """A track's whole signal as (channel, bin, frame)."""
    paths = paths_of(track)
    blocks = list(read_patch_frames(paths, role, num_patch_frames(paths)))
    for block in blocks:
        assert block.dtype == np.complex64
        assert block.flags.c_contiguous
        assert 1 <= block.shape[1] <= BLOCK_FRAMES
    return np.concatenate(blocks, axis=1).transpose(0, 2, 1)


class TestJoining:
    def test_patches_are_joined_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        x = spectrogram(0, num_frames=11 * PATCH_FRAMES)
        paths = cut(tmp_path, "song", x, c=100.0)
        track = only_track(tmp_path)
        assert [source.path.name for source in track.sources["instrumental"]] == [f"song_p{j}.npz" for j in range(11)]
        assert paths_of(track) == paths
        np.testing.assert_array_equal(joined(track, "instrumental"), x)

    @settings(deadline=None, max_examples=30)
    @given(
        num_frames=st.integers(1, 5 * PATCH_FRAMES),
        num_channels=st.integers(1, 2),
        num_bins=st.integers(1, 4),
        is_pair=st.booleans(),
        seed=st.integers(0, 99),
    )
    def test_a_song_comes_back_as_it_was_cut(
        self, num_frames: int, num_channels: int, num_bins: int, is_pair: bool, seed: int
    ) -> None:
        x = spectrogram(seed, num_frames=num_frames, num_channels=num_channels, num_bins=num_bins)
        y = spectrogram(seed + 1, num_frames=num_frames, num_channels=num_channels, num_bins=num_bins)
        with tempfile.TemporaryDirectory() as folder:
            cut(Path(folder), "song", x, y if is_pair else None, c=100.0)
            track = only_track(Path(folder))
            if is_pair:
                np.testing.assert_array_equal(joined(track, "mixture"), x)
            np.testing.assert_array_equal(joined(track, "instrumental"), y if is_pair else x)

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("dtype", ["<c8", ">c8", "<c16"])
    def test_every_way_to_store_the_numbers_is_read(
        self, tmp_path: Path, save: Callable[..., None], order: Literal["C", "F"], dtype: str
    ) -> None:
        x = spectrogram(0, num_frames=2 * BLOCK_FRAMES + 3)
        save(tmp_path / "song_p0.npz", X=x.astype(dtype, order=order), c=100.0)
        np.testing.assert_array_equal(joined(only_track(tmp_path), "instrumental"), x)

    @pytest.mark.parametrize("num_sounding", [0, 1, PATCH_FRAMES, PATCH_FRAMES + 1])
    def test_zero_frames_at_the_end_are_dropped_but_for_one(self, tmp_path: Path, num_sounding: int) -> None:
        x = spectrogram(0, num_frames=3 * PATCH_FRAMES)
        x[:, :, num_sounding:] = 0
        paths = cut(tmp_path, "song", x, c=100.0)
        assert num_patch_frames(paths) == max(1, num_sounding)
        np.testing.assert_array_equal(joined(only_track(tmp_path), "instrumental"), x[:, :, : max(1, num_sounding)])

    def test_zero_frames_elsewhere_are_kept(self, tmp_path: Path) -> None:
        x = spectrogram(0)
        x[:, :, :3] = 0
        x[:, :, 6:17] = 0
        cut(tmp_path, "song", x, c=100.0)
        np.testing.assert_array_equal(joined(only_track(tmp_path), "instrumental"), x)

    @pytest.mark.parametrize(("x_frames", "y_frames"), [(18, 11), (11, 18), (5, 6)])
    def test_a_pair_ends_where_both_of_its_signals_have_ended(
        self, tmp_path: Path, x_frames: int, y_frames: int
    ) -> None:
        x, y = spectrogram(0), spectrogram(1)
        x[:, :, x_frames:] = 0
        y[:, :, y_frames:] = 0
        cut(tmp_path, "song", x, y, c=100.0)
        track = only_track(tmp_path)
        length = max(x_frames, y_frames)
        np.testing.assert_array_equal(joined(track, "mixture"), x[:, :, :length])
        np.testing.assert_array_equal(joined(track, "instrumental"), y[:, :, :length])

    @pytest.mark.parametrize("num_last", [1, 3, PATCH_FRAMES + 2])
    def test_the_last_patch_may_have_another_length(self, tmp_path: Path, num_last: int) -> None:
        x = spectrogram(0, num_frames=PATCH_FRAMES + num_last)
        np.savez(tmp_path / "song_p0.npz", X=x[:, :, :PATCH_FRAMES], c=100.0)
        np.savez(tmp_path / "song_p1.npz", X=x[:, :, PATCH_FRAMES:], c=100.0)
        np.testing.assert_array_equal(joined(only_track(tmp_path), "instrumental"), x)

    def test_silent_patches_that_the_ancestor_left_out_of_vocals_are_silence(self, tmp_path: Path) -> None:
        x = spectrogram(0, num_frames=10 * PATCH_FRAMES)
        silent = (0, 1, 3, 4, 5, 6, 7, 9)
        for number, path in enumerate(cut(tmp_path, "song", x, c=0.5)):
            if number in silent:
                path.unlink()
                x[:, :, number * PATCH_FRAMES : (number + 1) * PATCH_FRAMES] = 0
        track = only_track(tmp_path)
        assert track.kind == "vocal"
        np.testing.assert_array_equal(joined(track, "vocals"), x[:, :, : 9 * PATCH_FRAMES])

    @pytest.mark.parametrize("role", ["mixture", "instrumental"])
    def test_memory_is_one_array_of_one_patch(self, tmp_path: Path, role: Role) -> None:
        x, y = (spectrogram(seed, num_bins=129, num_frames=2048) for seed in (0, 1))
        for number in range(3):
            np.savez(tmp_path / f"song_p{number}.npz", X=np.asfortranarray(x), Y=np.asfortranarray(y), c=100.0)
        tracemalloc.start()
        try:
            paths = paths_of(only_track(tmp_path))
            num_frames = sum(block.shape[1] for block in read_patch_frames(paths, role, num_patch_frames(paths)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert num_frames == 3 * 2048
        assert peak < x.nbytes + 4 * 2**20


class TestKinds:
    def test_a_patch_with_two_signals_is_a_pairs(self, tmp_path: Path) -> None:
        paths = cut(tmp_path, "song", spectrogram(0), spectrogram(1), c=100.0)
        track = only_track(tmp_path)
        assert track.kind == "pair"
        assert {
            role: [(source.path, source.gain) for source in sources] for role, sources in track.sources.items()
        } == {
            "mixture": [(path, 1.0) for path in paths],
            "instrumental": [(path, 1.0) for path in paths],
            "vocals": [*((path, 1.0) for path in paths), *((path, -1.0) for path in paths)],
        }

    @pytest.mark.parametrize("level", [1.0, 0.1, 1e-3])
    def test_instrumentals_and_vocals_are_told_apart_by_how_c_was_measured(
        self, tmp_path: Path, tiny_stft: StftSpec, make_signal: Callable[..., npt.NDArray[np.float32]], level: float
    ) -> None:
        samples = make_signal(0, level=level)
        x = stft(samples, tiny_stft)
        cut(tmp_path, "an instrumental", x, c=np.abs(x).max().item())
        cut(tmp_path, "vocals", x, c=np.abs(samples).max())
        discovery = find_patches(tmp_path)
        assert discovery.problems == []
        assert kinds(discovery) == {"an instrumental": "instrumental", "vocals": "vocal"}
        assert [list(track.sources) for track in discovery.tracks] == [["instrumental"], ["vocals"]]

    def test_vocals_that_begin_quietly_are_vocals(self, tmp_path: Path) -> None:
        x = spectrogram(0, num_frames=4 * PATCH_FRAMES)
        x[:, :, :-1] *= 1e-4
        cut(tmp_path, "song", x, c=np.float32(0.9))
        assert only_track(tmp_path).kind == "vocal"

    def test_a_c_that_was_rounded_is_still_the_largest_magnitude(self, tmp_path: Path) -> None:
        x = 0.01 * spectrogram(0)
        cut(tmp_path, "song", x, c=np.abs(x).max() * (1 - 1e-4))
        assert only_track(tmp_path).kind == "instrumental"

    def test_patches_marked_as_vocals_are_vocals_whatever_c_is(self, tmp_path: Path) -> None:
        x = spectrogram(0)
        cut(tmp_path, "song", x, c=np.abs(x).max().item(), vocals=True)
        assert only_track(tmp_path).kind == "vocal"

    @pytest.mark.parametrize("c", [100.0, np.float32(100.0), np.array([100.0]), 100])
    def test_c_may_be_any_one_number(self, tmp_path: Path, c: object) -> None:
        cut(tmp_path, "song", spectrogram(0), c=c)
        assert only_track(tmp_path).kind == "instrumental"

    def test_a_pair_needs_no_c(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "song_p0.npz", X=spectrogram(0), Y=spectrogram(1))
        assert only_track(tmp_path).kind == "pair"

    def test_a_large_c_tells_an_instrumental_without_its_samples(self, tmp_path: Path) -> None:
        damage_samples(large_patch(tmp_path, c=100.0))
        assert only_track(tmp_path).kind == "instrumental"


class TestNames:
    def test_songs_are_found_at_any_depth_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        for folder in ("b", "a/deep", "a"):
            instrumental(tmp_path / folder)
        instrumental(tmp_path, "0")
        discovery = find_patches(tmp_path)
        assert discovery.problems == []
        assert [track.name for track in discovery.tracks] == ["0", "a/deep/song", "a/song", "b/song"]

    @pytest.mark.parametrize("song", ["song_p1", "song_p1_p10", "no. 1.5", "a_p", "Dvořák – 第九", "[x] {p} 100%", "1"])
    def test_a_songs_name_is_what_stands_before_the_last_number(self, tmp_path: Path, song: str) -> None:
        instrumental(tmp_path, song)
        instrumental(tmp_path, "song", seed=1)
        assert {track.name for track in find_patches(tmp_path).tracks} == {song, "song"}

    def test_names_are_in_unicodes_composed_form(self, tmp_path: Path) -> None:
        instrumental(tmp_path, unicodedata.normalize("NFD", "Dvořák"))
        assert only_track(tmp_path).name == unicodedata.normalize("NFC", "Dvořák")

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not valid Unicode")
    def test_a_name_that_is_not_valid_unicode_can_be_printed(self, tmp_path: Path) -> None:
        (path,) = instrumental(tmp_path, num_frames=3)
        path.rename(tmp_path / os.fsdecode(b"caf\xe9_p0.npz"))
        track = only_track(tmp_path)
        assert track.name.encode("utf-8") == "caf\N{REPLACEMENT CHARACTER}".encode()
        assert joined(track, "instrumental").shape[2] == 3

    def test_files_of_other_names_are_named_once_per_folder(self, tmp_path: Path) -> None:
        instrumental(tmp_path, "whole")
        others = ["_p0.npz", "a.npz", "b_p01.npz", "c_p1.NPZ", "d_p.npz", "e.wav", "f.npy", "g_p-1.npz"]
        for name in (*others, "notes.txt", "cover.jpg"):
            (tmp_path / name).touch()
        path, reason = only_problem(tmp_path)
        assert path == "."
        assert reason.startswith(
            "expected patches named {song}_p0.npz, {song}_p1.npz and so on, found 8 files of other"
        )
        assert "(_p0.npz, a.npz, b_p01.npz, ...)" in reason

    def test_hidden_files_and_folders_are_ignored(self, tmp_path: Path) -> None:
        instrumental(tmp_path)
        instrumental(tmp_path / ".trash")
        (tmp_path / "._song_p0.npz").touch()
        assert only_track(tmp_path).name == "song"

    @pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
    def test_a_linked_folder_is_followed_once_and_a_loop_ends(self, tmp_path: Path) -> None:
        instrumental(tmp_path / "library")
        instrumental(tmp_path / "elsewhere")
        (tmp_path / "library" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "library" / "linked again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "library" / "loop").symlink_to(tmp_path / "library", target_is_directory=True)
        assert [track.name for track in find_patches(tmp_path / "library").tracks] == ["linked/song", "song"]

    def test_a_folder_that_cannot_be_read_is_named(self, tmp_path: Path, closed_folder: str) -> None:
        instrumental(tmp_path, "whole")
        instrumental(tmp_path / closed_folder)
        assert only_problem(tmp_path) == (closed_folder, "the folder cannot be read (Permission denied)")

    def test_what_cannot_be_seen_of_vocals_is_no_silence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        instrumental(tmp_path, "whole")
        cut(tmp_path / "half seen", "song", spectrogram(0), c=0.5)
        is_folder = Path.is_dir

        def refuse(path: Path) -> bool:
            if path.name == "song_p1.npz":
                raise OSError(5, "Input/output error")
            return is_folder(path)

        monkeypatch.setattr(Path, "is_dir", refuse)
        assert only_problem(tmp_path) == ("half seen", "the folder cannot be read (Input/output error)")

    @pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
    def test_a_broken_link_to_a_patch_of_vocals_is_no_silence(self, tmp_path: Path) -> None:
        instrumental(tmp_path, "whole")
        _, path, _ = cut(tmp_path, "song", spectrogram(0), c=0.5)
        path.unlink()
        path.symlink_to(tmp_path / "gone.npz")
        name, reason = only_problem(tmp_path)
        assert name == "song_p1.npz"
        assert "cannot be read (No such file or directory)" in reason

    def test_a_wrong_folder_is_the_users_mistake(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"missing: expected a folder of patches named .*, found nothing of that"):
            find_patches(tmp_path / "missing")
        (tmp_path / "song.wav").touch()
        with pytest.raises(InputError, match=r"song\.wav: expected a folder of patches named .*, found a file"):
            find_patches(tmp_path / "song.wav")
        with pytest.raises(
            InputError, match=r"no patches in .*; expected patches named \{song\}_p0\.npz.* \(song\.wav\)"
        ):
            find_patches(tmp_path)
        (tmp_path / "song.wav").unlink()
        with pytest.raises(InputError, match=r"no patches in .*; expected patches named \{song\}_p0\.npz"):
            find_patches(tmp_path)

    def test_the_folders_name_tells_the_stft(self, tmp_path: Path) -> None:
        named = tmp_path / "cs2048_sr48000_hl512_nf4096_of0_VOCALS" / "album"
        (path, *_) = instrumental(named)
        assert named_stft(path) == StftSpec(sample_rate=48000, n_fft=4096, hop_length=512)
        (path, *_) = instrumental(tmp_path / "renamed")
        assert named_stft(path) is None

    def test_a_patch_tells_its_number_of_bins(self, tmp_path: Path) -> None:
        (path, *_) = cut(tmp_path, "song", spectrogram(0, num_bins=7), c=100.0)
        assert read_patch_header(path).num_bins == 7

    def test_patches_that_overlap_are_refused_by_their_folders_name(self, tmp_path: Path) -> None:
        instrumental(tmp_path, "whole")
        instrumental(tmp_path / "cs256_sr44100_hl1024_nf2048_of64")
        path, reason = only_problem(tmp_path)
        assert path == "cs256_sr44100_hl1024_nf2048_of64"
        assert reason.startswith("expected patches without overlap")

    def test_a_discovery_travels_to_a_worker_process(self, tmp_path: Path) -> None:
        instrumental(tmp_path)
        discovery = find_patches(tmp_path)
        assert pickle.loads(pickle.dumps(discovery)) == discovery


X = spectrogram(0)
OBJECTS = np.array([{"a": 1}], dtype=object)


class TestUnusablePatches:
    @pytest.mark.parametrize(
        ("arrays", "reason"),
        [
            ({"c": 1.0}, "expected a spectrogram X in it, found c; "),
            ({}, "expected a spectrogram X in it, found nothing; "),
            ({"X": np.abs(X), "c": 99.0}, "expected complex values in X, found float32; "),
            ({"X": X, "Y": np.abs(X), "c": 99.0}, "expected complex values in Y, found float32; "),
            ({"X": X[0], "c": 99.0}, r"expected X of shape \(1 or 2 channels, bins, frames\), found \(5, 20\); "),
            ({"X": np.concatenate([X, X]), "c": 99.0}, r"expected X of shape .*, found \(4, 5, 20\); "),
            ({"X": X[:, :, :0], "c": 99.0}, r"expected X of shape .*, found \(2, 5, 0\); "),
            ({"X": X, "Y": X[:, :, 1:]}, r"expected X and Y of one shape, found \(2, 5, 20\) and \(2, 5, 19\); "),
            ({"X": X, "y": X}, "expected Y beside X, found y: an older patch, divided by the song's peak"),
            ({"X": X}, "expected a peak c, which tells vocals from instrumentals, found none; "),
            ({"X": X, "c": [1.0, 2.0]}, r"expected one number c, found float64 of shape \(2,\); "),
            ({"X": X, "c": "loud"}, r"expected one number c, found <U4 of shape \(\); "),
            ({"X": X, "c": np.nan}, "expected a peak c of 0 or more, found nan; "),
            ({"X": OBJECTS, "c": 99.0}, r".*cannot be read \(its X holds Python objects, which are never loaded\); "),
            ({"X": X, "c": OBJECTS}, r".*cannot be read \(its c holds Python objects, which are never loaded\); "),
        ],
    )
    def test_a_patch_of_another_format_is_named_with_what_was_expected_and_found(
        self, tmp_path: Path, arrays: Mapping[str, Any], reason: str
    ) -> None:
        instrumental(tmp_path, "whole")
        np.savez(tmp_path / "song_p0.npz", **arrays)
        path, found = only_problem(tmp_path)
        assert path == "song_p0.npz"
        assert re.match(reason, found), found

    @pytest.mark.parametrize("content", [b"", b"RIFF, but no zip", None])
    def test_a_file_that_is_no_npz_or_is_cut_short_is_named(self, tmp_path: Path, content: bytes | None) -> None:
        instrumental(tmp_path, "whole")
        _, path, _ = instrumental(tmp_path)
        path.write_bytes(path.read_bytes()[:-30] if content is None else content)
        name, reason = only_problem(tmp_path)
        assert name == "song_p1.npz"
        assert reason.startswith("expected a whole npz file, found one that cannot be read (")
        assert reason.endswith("); copy or make it again")

    @pytest.mark.parametrize(
        ("header", "reason"),
        [
            (
                "{'descr': '<c8', 'fortran_order': False, 'shape': (2, 5, 1000000000)}",
                "its X has 80 bytes for a shape of",
            ),
            ("{'descr': ',8', 'fortran_order': False, 'shape': (2, 5, 1)}", "not a header of the npy format"),
            ("{'descr': '<c8', 'fortran_order': False, 3: (2, 5, 1)}", "not a header of the npy format"),
            (
                "{'descr': '<c8', 'fortran_order': False, 'shape': (2, 5",
                "expected a whole npz file, found one that cannot be",
            ),
        ],
    )
    def test_a_header_that_cannot_be_right_is_not_believed(self, tmp_path: Path, header: str, reason: str) -> None:
        instrumental(tmp_path, "whole")
        text = header.encode() + b" " * (117 - len(header)) + b"\n"
        with zipfile.ZipFile(tmp_path / "song_p0.npz", "w") as archive:
            archive.writestr("X.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(80))
        path, found = only_problem(tmp_path)
        assert path == "song_p0.npz"
        assert re.search(reason, found), found

    def test_all_damaged_patches_of_a_song_are_named(self, tmp_path: Path) -> None:
        for path in instrumental(tmp_path)[1:]:
            path.write_bytes(b"")
        discovery = find_patches(tmp_path)
        assert discovery.tracks == []
        assert [Path(problem.path).name for problem in discovery.problems] == ["song_p1.npz", "song_p2.npz"]

    @pytest.mark.parametrize("is_pair", [False, True])
    def test_missing_patches_of_instrumentals_and_pairs_are_named(self, tmp_path: Path, is_pair: bool) -> None:
        x = spectrogram(0, num_frames=8 * PATCH_FRAMES)
        paths = cut(tmp_path, "song", x, x if is_pair else None, c=100.0)
        for number in (0, 2, 4, 5):
            paths[number].unlink()
        assert only_problem(tmp_path) == (
            "song",
            "expected patches p0 to p7, found no p0, p2, p4 to p5; copy or make them again",
        )

    def test_vocals_do_not_pause_for_more_than_an_hour(self, tmp_path: Path) -> None:
        x = spectrogram(0, num_frames=2048, num_channels=1, num_bins=2)
        for number in (0, 75):
            np.savez(tmp_path / f"song_p{number}.npz", X=x, c=0.5)
        assert only_track(tmp_path).kind == "vocal"
        (tmp_path / "song_p75.npz").rename(tmp_path / "song_p77.npz")
        path, reason = only_problem(tmp_path)
        assert path == "song"
        assert reason.startswith("expected patches without a gap of more than an hour, found none from p1 to p76; ")

    @pytest.mark.parametrize(
        ("position", "arrays", "reason"),
        [
            (
                1,
                {"X": X[:, :4, :8], "c": 100.0},
                r"expected X with 2 channels, 5 bins and 8 .*, found X with 2 .* 4 bins",
            ),
            (2, {"X": X[:1, :, :8], "c": 100.0}, r"expected X with 2 channels, 5 bins as .*, found X with 1 channels"),
            (
                1,
                {"X": X[:, :, :7], "c": 100.0},
                r"expected X with .* and 8 frames as in song_p0\.npz, found .* 7 frames",
            ),
            (2, {"X": X[:, :, :8], "Y": X[:, :, :8], "c": 100.0}, r"expected X with .*, found X and Y with "),
            (2, {"X": X[:, :, :8], "vocals": True, "c": 100.0}, r"expected X with .*, found X and vocals with "),
            (
                2,
                {"X": X[:, :, :8], "c": 98.0},
                r"expected c = 100 as in song_p0\.npz, found 98: a patch of another song",
            ),
        ],
    )
    def test_a_patch_that_cannot_be_of_the_same_song_is_named(
        self, tmp_path: Path, position: int, arrays: Mapping[str, Any], reason: str
    ) -> None:
        paths = cut(tmp_path, "song", X, c=100.0)
        np.savez(paths[position], **arrays)
        instrumental(tmp_path, "whole")
        path, found = only_problem(tmp_path)
        assert path == paths[position].name
        assert re.match(reason, found), found


class TestDamageThatShowsOnReading:
    def test_a_flipped_bit_in_the_samples_is_found(self, tmp_path: Path) -> None:
        path = large_patch(tmp_path, c=100.0)
        damage_samples(path)
        track = only_track(tmp_path)
        with pytest.raises(AudioError, match=r"song_p0\.npz: expected a whole npz file, found one .*CRC"):
            joined(track, "instrumental")
        with pytest.raises(AudioError, match=r"song_p0\.npz: expected a whole npz file"):
            num_patch_frames(paths_of(track))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, complex(0, np.nan), 1e300])
    def test_values_that_are_not_finite_are_counted(self, tmp_path: Path, value: complex) -> None:
        x = spectrogram(0).astype(np.complex128)
        x[1, 2, 3] = x[0, 0, 0] = value
        cut(tmp_path, "song", x, c=100.0)
        track = only_track(tmp_path)
        with pytest.raises(AudioError, match=r"song_p0\.npz: expected finite values, found 2 in X that are NaN or inf"):
            joined(track, "instrumental")

    def test_a_patch_that_is_gone_is_named(self, tmp_path: Path) -> None:
        paths = instrumental(tmp_path)
        num_frames = num_patch_frames(paths)
        paths[1].unlink()
        with pytest.raises(AudioError, match=r"song_p1\.npz: .* cannot be read \(No such file or directory\)"):
            list(read_patch_frames(paths, "instrumental", num_frames))

    @pytest.mark.parametrize("x", [X[:1, :, :8], X[:, :4, :8], X[:, :, :7]])
    def test_a_patch_that_changed_its_shape_is_named(self, tmp_path: Path, x: ComplexArray) -> None:
        paths = instrumental(tmp_path)
        np.savez(paths[1], X=x, c=100.0)
        with pytest.raises(AudioError, match=r"song_p1\.npz: expected X of 2 channels, 5 bins and 8 frames, found the"):
            list(read_patch_frames(paths, "instrumental", 20))

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_damage_anywhere_is_named_or_harmless(self, tmp_path: Path, save: Callable[..., None]) -> None:
        buffer = io.BytesIO()
        save(buffer, X=X, c=np.float32(0.5))
        whole = buffer.getvalue()
        rng = np.random.default_rng(0)
        messages: list[str] = []
        for _ in range(400):
            content = bytearray(whole)
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
            (tmp_path / "song_p0.npz").write_bytes(content)
            discovery = find_patches(tmp_path)
            messages += [problem.path for problem in discovery.problems]
            for track in discovery.tracks:
                try:
                    found = joined(track, "vocals")
                except AudioError as error:
                    messages.append(str(error))
                else:
                    np.testing.assert_array_equal(found, X)
        assert len(messages) > 200
        assert all("song_p0.npz" in message for message in messages)


def large_patch(folder: Path, c: object) -> Path:
    """Write a patch so large that its end is not read along with its header."""
    path = folder / "song_p0.npz"
    np.savez(path, X=spectrogram(0, num_bins=129, num_frames=256), c=c)  # type: ignore[arg-type]
    return path


def damage_samples(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
