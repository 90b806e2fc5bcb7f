from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from rich.console import Console

from vrtool.dataset.cache import Cache, open_cache, write_manifest

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def inspect(vrtool: Callable[..., CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `vrtool inspect-dataset` in this process; gives exit code, output and errors."""

    def run(*words: object, columns: int = 80) -> tuple[int, str, str]:
        monkeypatch.setattr("vrtool.cli.inspect_dataset.console", Console(highlight=False, width=columns))
        done = vrtool("inspect-dataset", *words)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def copied_cache(small_cache: Cache, tmp_path: Path) -> Cache:
    """A copy of the small cache that a test may change."""
    shutil.copytree(small_cache.path, tmp_path / "cache")
    return open_cache(tmp_path / "cache")


def flip_a_bit(cache: Cache) -> Path:
    track = cache.tracks[0]
    content = bytearray(track.path.read_bytes())
    content[track.header.storage[track.header.main_role].offset_bytes + 99] ^= 0b10000
    track.path.write_bytes(content)
    return track.path


class TestTable:
    @pytest.mark.parametrize("columns", [80, 100, 160])
    def test_it_is_whole_in_any_usual_width(self, inspect: Command, small_cache: Cache, columns: int) -> None:
        code, out, err = inspect(small_cache.path, columns=columns)
        assert (code, err) == (0, "")
        assert "…" not in out
        assert all(len(line) <= columns for line in out.splitlines()[1:])
        rows = [line.split() for line in out.splitlines()]
        assert ["pool", "split", "tracks", "hours", "size", "peak", "max", "level", "dB", "silent", "clipped"] in rows
        counts = {row[0]: row[2] for row in rows if row[1:2] == ["training"] and row[2].isdigit() and len(row) > 9}
        assert counts == {"instrumental": "3", "vocal": "3", "pair": "2"}
        sources = "instrumental training 3 of 8000; 1 mono, 2 stereo; in 3 instrumental/instrumentals"
        assert sources in " ".join(out.split())  # it may take two lines

    def test_its_first_line_sums_the_cache_up(self, inspect: Command, small_cache: Cache) -> None:
        _, out, _ = inspect(small_cache.path)
        assert re.fullmatch(
            rf"{small_cache.path}  8 tracks, 0\.00 hours, [\d.]+ MB; 8000 Hz, n_fft 256, hop 128, validation 0",
            out.splitlines()[0],
        )

    def test_every_track_is_listed_when_asked_with_its_whole_name(self, inspect: Command, copied_cache: Cache) -> None:
        first, *rest = copied_cache.tracks
        name = "夜に駆ける/" + "a very long name " * 5 + "[red]"
        write_manifest(replace(copied_cache, tracks=(replace(first, header=replace(first.header, name=name)), *rest)))
        _, plain, _ = inspect(copied_cache.path)
        _, listed, _ = inspect(copied_cache.path, "--tracks", columns=250)
        assert name not in plain
        assert name in listed
        assert sum(line.startswith(("instrumental", "vocal", "pair")) for line in listed.splitlines()) == 3 + 3 + 8

    def test_suspicious_tracks_are_named(self, inspect: Command, copied_cache: Cache) -> None:
        track = copied_cache.pool("vocal", "training")[0]
        loud = replace(track.header.statistics["vocals"], clipping_share=0.25)
        header = replace(track.header, name="[loud]", statistics={"vocals": loud})
        tracks = tuple(replace(other, header=header) if other == track else other for other in copied_cache.tracks)
        write_manifest(replace(copied_cache, tracks=tracks))
        code, out, _ = inspect(copied_cache.path)
        assert code == 0
        assert "1 things deserve a look:\n  vocal/[loud]: 25.00% of its samples are at full scale\n" in out

    def test_many_tracks_with_the_same_problem_share_a_line(self, inspect: Command, copied_cache: Cache) -> None:
        tracks = tuple(
            replace(
                track,
                header=replace(
                    track.header, sources=tuple(replace(source, sample_rate=3000) for source in track.header.sources)
                ),
            )
            for track in copied_cache.tracks
        )
        write_manifest(replace(copied_cache, tracks=tracks))
        _, out, _ = inspect(copied_cache.path)
        shared = [line for line in out.splitlines() if line.endswith("its source has 3000 Hz: nothing above 1500 Hz")]
        assert len(shared) == 1
        assert " and 5 more: " in shared[0]


class TestVerify:
    def test_a_whole_cache_is_confirmed(self, inspect: Command, small_cache: Cache) -> None:
        code, out, err = inspect(small_cache.path, "--verify")
        assert (code, err) == (0, "")
        assert out.endswith("\nall 8 files are as they were written\n")

    def test_a_flipped_bit_is_found_only_when_looked_for(self, inspect: Command, copied_cache: Cache) -> None:
        path = flip_a_bit(copied_cache)
        assert inspect(copied_cache.path)[0] == 0
        code, out, err = inspect(copied_cache.path, "--verify")
        assert code == 1
        assert "as they were written" not in out
        assert err.startswith(f"damaged: {path}: the bytes of its")
        assert err.endswith("have changed since they were written; delete it and run vrtool prepare again\n")

    def test_every_damaged_file_is_named(self, inspect: Command, copied_cache: Cache) -> None:
        flipped = flip_a_bit(copied_cache)
        truncated, missing = (track.path for track in copied_cache.tracks[1:3])
        truncated.write_bytes(truncated.read_bytes()[:1000])
        missing.unlink()
        code, _, err = inspect(copied_cache.path, "--verify")
        assert code == 1
        found = [line.split(": ")[:2] for line in err.splitlines()]
        assert found == [["damaged", str(path)] for path in (flipped, truncated, missing)]


class TestJson:
    def test_it_says_all_that_is_known(self, inspect: Command, small_cache: Cache) -> None:
        code, out, err = inspect(small_cache.path, "--json")
        document = json.loads(out)
        assert (code, err) == (0, "")
        assert (document["num_tracks"], document["stft"]["n_fft"], document["validation"]) == (8, 256, "0")
        assert [pool["num_tracks"] for pool in document["pools"]] == [3, 3, 2]
        assert [pool["libraries"] for pool in document["pools"]] == [
            {"instrumental/instrumentals": 3}, {"vocal/vocals": 3}, {"pair/pairs": 2},
        ]  # fmt: skip
        assert [track["name"] for track in document["tracks"]] == [track.header.name for track in small_cache.tracks]
        assert (document["problems"], document["damaged"]) == ([], None)

    def test_damage_is_part_of_it_and_of_the_exit_code(self, inspect: Command, copied_cache: Cache) -> None:
        path = flip_a_bit(copied_cache)
        code, out, _ = inspect(copied_cache.path, "--json", "--verify")
        assert code == 1
        assert [problem["path"] for problem in json.loads(out)["damaged"]] == [str(path)]

    def test_a_whole_cache_has_no_damage(self, inspect: Command, small_cache: Cache) -> None:
        assert json.loads(inspect(small_cache.path, "--json", "--verify")[1])["damaged"] == []


class TestRefusals:
    def refused(self, outcome: tuple[int, str, str], message: str) -> None:
        code, out, err = outcome
        assert (code, out) == (2, "")
        assert re.fullmatch(f"error: {message}\n", err), err

    def test_a_wrong_path(self, inspect: Command, tmp_path: Path) -> None:
        self.refused(
            inspect(tmp_path / "nowhere"),
            rf"{tmp_path}/nowhere: expected a cache with a manifest\.json, found none; make one with vrtool prepare",
        )

    def test_a_library_for_a_cache(self, inspect: Command, small_library: Path) -> None:
        self.refused(inspect(small_library), r".*/library\d+: expected a cache with a manifest\.json, found none; .*")

    def test_a_damaged_manifest(self, inspect: Command, copied_cache: Cache) -> None:
        (copied_cache.path / "manifest.json").write_text("{")
        self.refused(
            inspect(copied_cache.path), r".*/manifest\.json: expected JSON, .*; delete it and run vrtool prepare again"
        )

    def test_a_track_that_was_cut_short(self, inspect: Command, copied_cache: Cache) -> None:
        track = copied_cache.tracks[0]
        with track.path.open("rb+") as file:
            file.truncate(1000)
        self.refused(
            inspect(copied_cache.path),
            rf"{track.path}: expected at least [\d,]+ bytes, found 1,000; the file was cut short, delete it and run .*",
        )

    def test_no_cache_at_all(self, inspect: Command) -> None:
        code, out, err = inspect()
        assert (code, out) == (2, "")
        assert "Missing argument" in err


def test_a_terminal_without_the_letters_of_a_name_shows_something_else(copied_cache: Cache) -> None:
    first, *rest = copied_cache.tracks
    write_manifest(replace(copied_cache, tracks=(replace(first, header=replace(first.header, name="夜")), *rest)))
    done = subprocess.run(
        [sys.executable, "-m", "vrtool", "inspect-dataset", str(copied_cache.path), "--tracks"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert rb"\u591c" in done.stdout
    assert done.stderr == b""
