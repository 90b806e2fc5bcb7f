from __future__ import annotations

import os
import pickle
import sys
import unicodedata
from pathlib import Path

import pytest

from vrtool.dataset.library import find_pairs, find_tracks
from vrtool.dataset.track import Discovery, Role, Track
from vrtool.errors import InputError

STEMS = ["drums.wav", "bass.wav", "other.wav"]


def make(root: Path, *names: str) -> Path:
    """Make empty files: to discover a library, nothing is decoded."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(discovery: Discovery) -> list[str]:
    return [track.name for track in discovery.tracks]


def terms(track: Track, root: Path) -> dict[Role, str]:
    """A pair's roles as sums of file names, such as "mixture.wav - vocals.wav"."""
    return {
        role: "".join(
            f"{' + ' if source.gain > 0 else ' - '}{source.path.relative_to(root).as_posix()}" for source in sources
        ).removeprefix(" + ")
        for role, sources in track.sources.items()
    }


def only_pair(root: Path) -> Track:
    discovery = find_pairs(root)
    assert discovery.problems == []
    assert len(discovery.tracks) == 1
    return discovery.tracks[0]


def test_tracks_are_found_at_any_depth_in_the_order_of_their_names(tmp_path: Path) -> None:
    make(tmp_path, "b.flac", "a/z.WAV", "a/b/c.m4a", "c.mp4", "notes.txt", "cover.jpg")
    discovery = find_tracks(tmp_path, "instrumental")
    assert names(discovery) == ["a/b/c", "a/z", "b", "c"]
    assert discovery.problems == []


@pytest.mark.parametrize(("kind", "role"), [("instrumental", "instrumental"), ("vocal", "vocals")])
def test_a_track_has_the_role_of_its_kind(tmp_path: Path, kind: str, role: Role) -> None:
    make(tmp_path, "a.wav")
    (track,) = find_tracks(tmp_path, "instrumental" if kind == "instrumental" else "vocal").tracks
    assert track.kind == kind
    assert list(track.sources) == [role]
    assert [(source.path, source.gain) for source in track.sources[role]] == [(tmp_path / "a.wav", 1.0)]


def test_two_files_of_one_name_are_two_tracks_of_different_names(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", "a.flac", "b.wav")
    assert names(find_tracks(tmp_path, "vocal")) == ["a.flac", "a.wav", "b"]


def test_a_dot_within_a_name_is_part_of_it(tmp_path: Path) -> None:
    make(tmp_path, "no. 1.5/take 2.1.wav")
    assert names(find_tracks(tmp_path, "vocal")) == ["no. 1.5/take 2.1"]


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", ".b.wav", "._a.wav", ".c.partial-12.wav", ".trash/d.wav", "__MACOSX/._a.wav")
    discovery = find_tracks(tmp_path, "vocal")
    assert names(discovery) == ["a"]
    assert discovery.problems == []


def test_names_are_in_unicodes_composed_form(tmp_path: Path) -> None:
    make(tmp_path, unicodedata.normalize("NFD", "Dvořák.wav"))
    assert names(find_tracks(tmp_path, "vocal")) == [unicodedata.normalize("NFC", "Dvořák")]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not valid Unicode")
def test_a_name_that_is_not_valid_unicode_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).touch()
    (track,) = find_tracks(tmp_path, "vocal").tracks
    assert track.name.encode("utf-8") == "caf\N{REPLACEMENT CHARACTER}".encode()
    assert track.sources["vocals"][0].path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_linked_folder_is_followed_once_and_a_loop_ends(tmp_path: Path) -> None:
    library = make(tmp_path / "library", "a.wav", "sub/b.wav")
    make(tmp_path / "elsewhere", "c.wav")
    (library / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (library / "linked again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (library / "sub" / "loop").symlink_to(library, target_is_directory=True)
    assert names(find_tracks(library, "vocal")) == ["a", "linked/c", "sub/b"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_broken_link_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.wav")
    (tmp_path / "b.wav").symlink_to(tmp_path / "gone.wav")
    discovery = find_tracks(tmp_path, "vocal")
    assert names(discovery) == ["a"]
    assert [(problem.path, problem.reason) for problem in discovery.problems] == [
        (str(tmp_path / "b.wav"), "expected a file, found a broken link")
    ]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, closed_folder: str) -> None:
    make(tmp_path, "a.wav", f"{closed_folder}/b.wav")
    discovery = find_tracks(tmp_path, "vocal")
    assert names(discovery) == ["a"]
    assert [(problem.path, problem.reason) for problem in discovery.problems] == [
        (str(tmp_path / closed_folder), "the folder cannot be read (Permission denied)")
    ]


@pytest.mark.parametrize("find", [find_pairs, lambda root: find_tracks(root, "vocal")])
def test_a_wrong_library_is_the_users_mistake(tmp_path: Path, find: object) -> None:
    assert callable(find)
    with pytest.raises(InputError, match="missing: expected a folder of audio files, found nothing of that name"):
        find(tmp_path / "missing")
    make(tmp_path, "a.wav", "empty/readme.txt")
    with pytest.raises(InputError, match=r"a\.wav: expected a folder of audio files, found a file"):
        find(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"no audio files in .*empty; expected files ending in .*\.flac, .*\.wav"):
        find(tmp_path / "empty")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["mixture.wav", "instrumental.wav"],
            ("mixture.wav", "instrumental.wav", "mixture.wav - instrumental.wav"),
        ),
        (
            ["mixture.ogg", "accompaniment.flac"],
            ("mixture.ogg", "accompaniment.flac", "mixture.ogg - accompaniment.flac"),
        ),
        (
            ["mixture.wav", "vocals.wav"],
            ("mixture.wav", "mixture.wav - vocals.wav", "vocals.wav"),
        ),
        (
            ["mixture.wav", "instrumental.wav", "vocals.wav"],
            ("mixture.wav", "instrumental.wav", "vocals.wav"),
        ),
        (
            ["instrumental.wav", "vocals.wav"],
            ("instrumental.wav + vocals.wav", "instrumental.wav", "vocals.wav"),
        ),
        (
            ["mixture.wav", *STEMS, "vocals.wav"],
            ("mixture.wav", "drums.wav + bass.wav + other.wav", "vocals.wav"),
        ),
        (
            [*STEMS, "vocals.wav"],
            (
                "drums.wav + bass.wav + other.wav + vocals.wav",
                "drums.wav + bass.wav + other.wav",
                "vocals.wav",
            ),
        ),
        (
            ["mixture.wav", *STEMS],
            (
                "mixture.wav",
                "drums.wav + bass.wav + other.wav",
                "mixture.wav - drums.wav - bass.wav - other.wav",
            ),
        ),
        (
            ["mixture.wav", "drums.wav", "vocals.wav"],
            ("mixture.wav", "mixture.wav - vocals.wav", "vocals.wav"),
        ),
        (
            ["mixture.wav", *STEMS, "guitar.wav", "vocals.wav"],
            ("mixture.wav", "mixture.wav - vocals.wav", "vocals.wav"),
        ),
        (
            ["MIXTURE.WAV", "Instrumental.Flac"],
            ("MIXTURE.WAV", "Instrumental.Flac", "MIXTURE.WAV - Instrumental.Flac"),
        ),
    ],
)
def test_a_songs_folder_gives_mixture_instrumental_and_vocals(
    tmp_path: Path, files: list[str], expected: tuple[str, str, str]
) -> None:
    make(tmp_path / "train" / "song", *files, "cover.jpg")
    track = only_pair(tmp_path)
    assert (track.name, track.kind) == ("train/song", "pair")
    found = terms(track, tmp_path / "train" / "song")
    assert found == dict(zip(("mixture", "instrumental", "vocals"), expected, strict=True))


def test_a_library_can_be_one_songs_folder(tmp_path: Path) -> None:
    song = make(tmp_path / "My Song", "mixture.wav", "vocals.wav")
    assert only_pair(song).name == "My Song"


def test_song_folders_are_found_at_any_depth_in_the_order_of_their_names(tmp_path: Path) -> None:
    for song in ("train/b", "train/a", "c", "train/a/live"):
        make(tmp_path / song, "mixture.wav", "vocals.wav")
    discovery = find_pairs(tmp_path)
    assert discovery.problems == []
    assert names(discovery) == ["c", "train/a", "train/a/live", "train/b"]


@pytest.mark.parametrize(
    "files",
    [
        ["mixture.wav"],
        ["instrumental.wav"],
        ["vocals.wav"],
        STEMS,
        ["mixture.wav", "drums.wav", "bass.wav"],
        ["drums.wav", "bass.wav", "vocals.wav"],
        [*STEMS, "guitar.wav", "vocals.wav"],
    ],
)
def test_a_song_without_enough_files_is_named_with_what_was_expected_and_found(
    tmp_path: Path, files: list[str]
) -> None:
    make(tmp_path / "whole", "mixture.wav", "vocals.wav")
    make(tmp_path / "song", *files)
    discovery = find_pairs(tmp_path)
    assert names(discovery) == ["whole"]
    (problem,) = discovery.problems
    assert problem.path == str(tmp_path / "song")
    assert problem.reason.startswith("expected mixture.* with instrumental.*")
    assert problem.reason.endswith(f"found only {', '.join(sorted(files))}")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            ["mixture.wav", "mixture.flac", "vocals.wav"],
            "expected one mixture, found mixture.flac and mixture.wav; keep one of them",
        ),
        (
            ["mixture.wav", "accompaniment.wav", "instrumental.wav"],
            "expected one instrumental, found accompaniment.wav and instrumental.wav; keep one of them",
        ),
    ],
)
def test_two_files_of_one_role_are_a_problem(tmp_path: Path, files: list[str], reason: str) -> None:
    make(tmp_path / "song", *files)
    discovery = find_pairs(tmp_path)
    assert discovery.tracks == []
    assert [(problem.path, problem.reason) for problem in discovery.problems] == [(str(tmp_path / "song"), reason)]


def test_audio_under_names_that_say_nothing_is_a_problem(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", "b.wav", "c.wav", "d.wav", "song/mixture.wav", "song/vocals.wav")
    discovery = find_pairs(tmp_path)
    assert names(discovery) == ["song"]
    (problem,) = discovery.problems
    assert problem.path == str(tmp_path)
    assert problem.reason.endswith("found 4 audio files of other names (a.wav, b.wav, c.wav, ...)")


def test_mixtures_and_instruments_are_matched_by_name_not_by_order(tmp_path: Path) -> None:
    make(tmp_path / "mixtures", "b.wav", "C.mp3", "album/a.wav")
    make(tmp_path / "instruments", "a0.wav", "album/a.flac", "b.wav", "c.wav")
    discovery = find_pairs(tmp_path)
    assert {track.name: terms(track, tmp_path) for track in discovery.tracks} == {
        name: {"mixture": mixture, "instrumental": instrumental, "vocals": f"{mixture} - {instrumental}"}
        for name, mixture, instrumental in [
            ("C", "mixtures/C.mp3", "instruments/c.wav"),
            ("album/a", "mixtures/album/a.wav", "instruments/album/a.flac"),
            ("b", "mixtures/b.wav", "instruments/b.wav"),
        ]
    }
    (problem,) = discovery.problems
    assert problem.path == str(tmp_path / "instruments" / "a0.wav")
    assert problem.reason.startswith(f"expected one mixture of the same name in {tmp_path / 'mixtures'}, found none")


def test_the_two_folders_are_found_at_any_depth_and_in_any_case(tmp_path: Path) -> None:
    make(tmp_path / "Train", "Mixtures/a.wav", "Instruments/a.wav")
    make(tmp_path / "dev" / "song", "mixture.wav", "vocals.wav")
    assert names(find_pairs(tmp_path)) == ["Train/a", "dev/song"]


def test_matched_names_may_differ_in_unicodes_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Dvořák.wav") for form in ("NFC", "NFD"))
    make(tmp_path, f"mixtures/{decomposed}", f"instruments/{composed}")
    assert only_pair(tmp_path).name == unicodedata.normalize("NFC", "Dvořák")


@pytest.mark.parametrize(
    ("mixture", "instrumental"),
    [
        ("song_mix.wav", "song_inst.wav"),
        ("song.wav", "song (Instrumental).wav"),
        ("song - Mixture.wav", "song [off vocal].wav"),
        ("song.wav", "song_no_vocals.wav"),
        ("song (Original).wav", "song-karaoke.wav"),
    ],
)
def test_endings_that_tell_the_two_apart_are_seen_through(tmp_path: Path, mixture: str, instrumental: str) -> None:
    make(tmp_path, f"mixtures/{mixture}", f"instruments/{instrumental}", "mixtures/b.wav", "instruments/b.wav")
    discovery = find_pairs(tmp_path)
    assert discovery.problems == []
    found = [(track.sources["mixture"][0].path.name, track.sources["instrumental"][0].path.name)
             for track in discovery.tracks]  # fmt: skip
    assert (mixture, instrumental) in found


def test_an_ending_is_not_seen_through_if_there_is_a_choice(tmp_path: Path) -> None:
    make(tmp_path, "mixtures/song_mix.wav", "mixtures/song_full.wav", "instruments/song_inst.wav")
    discovery = find_pairs(tmp_path)
    assert discovery.tracks == []
    assert {Path(problem.path).name for problem in discovery.problems} == {
        "song_mix.wav",
        "song_full.wav",
        "song_inst.wav",
    }


def test_a_remix_is_another_song(tmp_path: Path) -> None:
    make(tmp_path, "mixtures/song remix.wav", "instruments/song.wav")
    discovery = find_pairs(tmp_path)
    assert discovery.tracks == []
    assert len(discovery.problems) == 2


def test_two_files_of_one_name_in_mixtures_are_a_problem(tmp_path: Path) -> None:
    make(tmp_path, "mixtures/a.wav", "mixtures/a.flac", "mixtures/b.wav", "instruments/a.wav", "instruments/b.wav")
    discovery = find_pairs(tmp_path)
    assert names(discovery) == ["b"]
    assert [Path(problem.path).name for problem in discovery.problems] == ["a.flac", "a.wav", "a.wav"]
    assert "expected one file of this name, found a.flac and a.wav" in discovery.problems[0].reason


def test_mixtures_without_instruments_are_a_problem(tmp_path: Path) -> None:
    make(tmp_path, "mixtures/a.wav")
    discovery = find_pairs(tmp_path)
    assert discovery.tracks == []
    (problem,) = discovery.problems
    assert problem.path == str(tmp_path / "mixtures")
    assert "folders mixtures and instruments" in problem.reason


def test_a_discovery_travels_to_a_worker_process(tmp_path: Path) -> None:
    make(tmp_path / "song", "mixture.wav", "vocals.wav")
    discovery = find_pairs(tmp_path)
    assert pickle.loads(pickle.dumps(discovery)) == discovery
