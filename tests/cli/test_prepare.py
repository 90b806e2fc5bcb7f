from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import open_cache

Make = Callable[..., FloatArray]
Write = Callable[..., Path]
Command = Callable[..., CompletedProcess[str]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestDone:
    def test_libraries_of_all_kinds_become_a_cache(self, prepare: Command, small_library: Path, output: Path) -> None:
        done = prepare(
            "--instrumentals", small_library / "instrumentals", "--vocals", small_library / "vocals",
            "--pairs", small_library / "pairs", "--output", output, "--validation", "0.4",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(
            rf"{output}: 8 tracks, 0\.00 hours, \d for validation \(8 prepared now, 0 were there\)\n", done.stdout
        )
        cache = open_cache(output)
        assert len(cache.tracks) == 8
        assert all(cache.pool(kind, "validation") for kind in ("instrumental", "vocal", "pair"))

    def test_a_library_may_be_split_over_folders(
        self, prepare: Command, small_library: Path, vocals: Path, output: Path
    ) -> None:
        done = prepare("--vocals", vocals, "--vocals", small_library / "vocals", "-o", output)
        assert done.returncode == 0
        assert len(open_cache(output).tracks) == 6

    def test_a_second_run_does_nothing_and_leaves_every_byte(
        self, prepare: Command, vocals: Path, output: Path
    ) -> None:
        command = ("--vocals", vocals, "--output", output)
        assert prepare(*command).returncode == 0
        before = contents(output)
        done = prepare(*command)
        assert done.returncode == 0
        assert "3 tracks, 0.00 hours, 1 for validation (0 prepared now, 3 were there)" in done.stdout
        assert contents(output) == before

    def test_only_a_changed_source_is_redone(
        self, prepare: Command, vocals: Path, output: Path, make_signal: Make, write_sound: Write
    ) -> None:
        command = ("--vocals", vocals, "--output", output)
        prepare(*command)
        write_sound(vocals / "v1.wav", make_signal(9, seconds=1.5))
        assert "(1 prepared now, 2 were there)" in prepare(*command).stdout

    def test_a_touched_source_is_not_redone_and_its_file_not_written_again(
        self, prepare: Command, vocals: Path, output: Path
    ) -> None:
        command = ("--vocals", vocals, "--output", output)
        prepare(*command)
        before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.glob("vocal/*.h5")}
        for path in vocals.iterdir():
            os.utime(path, ns=(0, 0))
        assert "(0 prepared now, 3 were there)" in prepare(*command).stdout
        assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.glob("vocal/*.h5")} == before

    def test_float32_keeps_every_bit(
        self, prepare: Command, vocals: Path, output: Path, make_signal: Make, tiny_stft: StftSpec
    ) -> None:
        done = prepare("--vocals", vocals, "--output", output, "--precision", "float32")
        assert (done.returncode, done.stderr) == (0, "")
        cache = open_cache(output)
        assert cache.precision == "float32"
        for number, track in enumerate(cache.tracks):
            found = track.read_complex("vocals", 0, track.header.num_frames)
            np.testing.assert_array_equal(found, stft(make_signal(number, seconds=1.0), tiny_stft))

    def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
        self, prepare: Command, vocals: Path, output: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vrtool.cli.console.SECONDS_BETWEEN_LINES", 0.0)
        done = prepare("--vocals", vocals, "--output", output)
        assert done.stderr == "preparing: 0 of 0 MB of audio\n" * 3

    def test_names_with_markup_are_printed_as_they_are(self, prepare: Command, vocals: Path, tmp_path: Path) -> None:
        output = tmp_path / "[bold]100% [cache]"
        assert prepare("--vocals", vocals, "--output", output).stdout.startswith(f"{output}: 3 tracks")


class TestRemoved:
    @pytest.fixture
    def command(self, prepare: Command, vocals: Path, output: Path) -> tuple[object, ...]:
        """Prepares a library one track of which has gone since it was prepared."""
        command = ("--vocals", vocals, "--output", output)
        prepare(*command)
        (vocals / "v1.wav").unlink()
        return command

    def test_tracks_that_are_gone_are_told_and_stay(
        self, prepare: Command, command: tuple[object, ...], output: Path
    ) -> None:
        before = contents(output)
        for words in ((), ("--dry-run",), ("--dry-run", "--prune")):
            done = prepare(*command, *words)
            stay = "are deleted from the cache" if "--prune" in words else "stay in the cache; --prune deletes them"
            assert (done.returncode, done.stderr) == (0, "")
            assert f"\n1 tracks that the libraries have no more {stay}\n" in done.stdout
            assert contents(output) == before

    def test_tracks_that_are_gone_are_deleted_when_asked_to(
        self, prepare: Command, command: tuple[object, ...], output: Path
    ) -> None:
        done = prepare(*command, "--prune")
        assert done.returncode == 0
        assert "2 tracks" in done.stdout
        assert "\n1 tracks that the libraries have no more are deleted from the cache\n" in done.stdout
        assert [track.header.name for track in open_cache(output).tracks] == ["v0", "v2"]
        assert len(list(output.glob("*/*.h5"))) == 2
        assert "no more" not in prepare(*command, "--prune").stdout

    def test_libraries_that_are_not_given_keep_theirs(
        self, prepare: Command, command: tuple[object, ...], small_library: Path, output: Path
    ) -> None:
        before = contents(output)
        done = prepare("--instrumentals", small_library / "instrumentals", "--output", output, "--prune")
        assert "no more" not in done.stdout
        assert command
        assert len(open_cache(output).tracks) == 6
        assert {name for name in before if name.endswith(".h5")} < set(contents(output))


class TestDryRun:
    def test_it_says_what_it_would_take_and_writes_nothing(self, prepare: Command, vocals: Path, output: Path) -> None:
        done = prepare("--vocals", vocals, "--output", output, "--dry-run", "--jobs", "3")
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert lines[0] == "to prepare      3 tracks, 0.00 hours"
        assert lines[1] == "already there   0 tracks"
        assert re.fullmatch(r"cache grows by  0\.00 GB \(\d+\.\d GB are free\)", lines[2])
        assert re.fullmatch(r"time            about 0\.\d minutes with 3 jobs", lines[3])
        assert not output.exists()

    def test_it_counts_what_is_there(self, prepare: Command, vocals: Path, output: Path) -> None:
        command = ("--vocals", vocals, "--output", output)
        prepare(*command)
        before = contents(output)
        done = prepare(*command, "--dry-run")
        assert done.stdout.splitlines()[:2] == ["to prepare      0 tracks, 0.00 hours", "already there   3 tracks"]
        assert contents(output) == before

    def test_files_it_cannot_use_are_named(
        self, prepare: Command, small_library: Path, output: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(small_library / "pairs", tmp_path / "pairs")
        (tmp_path / "pairs/mono/vocals.wav").unlink()
        done = prepare("--pairs", tmp_path / "pairs", "--output", output, "--dry-run")
        assert done.returncode == 1
        assert "1 could not be used (found before decoding anything):" in done.stderr
        assert f"  {tmp_path}/pairs/mono: expected mixture.*" in done.stderr


class TestProblems:
    def test_a_broken_file_is_named_at_the_end_and_the_others_are_done(
        self, prepare: Command, vocals: Path, output: Path, write_sound: Write, make_signal: Make
    ) -> None:
        (vocals / "v1.wav").write_bytes(b"RIFF....no wave")
        write_sound(vocals / "silent.wav", make_signal(0) * 0)
        write_sound(vocals / "short.wav", make_signal(0, seconds=0.1))
        write_sound(vocals / "six.wav", make_signal(0, num_channels=6))
        write_sound(vocals / "nan.wav", make_signal(0) * float("nan"))
        done = prepare("--vocals", vocals, "--output", output)
        assert done.returncode == 1
        assert "2 tracks" in done.stdout
        lines = done.stderr.splitlines()
        assert lines[1] == "5 could not be used (everything else is in the cache):"
        assert lines[2:5] == [
            f"  {vocals}/nan.wav: has samples that are NaN or infinite; export it again",
            f"  {vocals}/short.wav: is 0.10 s long, expected at least 0.5 s (--minimum-seconds)",
            f"  {vocals}/silent.wav: is silent throughout",
        ]
        assert lines[5] == f"  {vocals}/six.wav: has 6 channels, expected mono or stereo; mix it down"
        assert lines[6].startswith(f"  {vocals}/v1.wav: expected")
        assert len(lines) == 7
        assert [track.header.name for track in open_cache(output).tracks] == ["v0", "v2"]

    def test_halves_of_different_length_are_named_with_their_song(
        self, prepare: Command, tmp_path: Path, output: Path, write_sound: Write, make_signal: Make
    ) -> None:
        for name, seconds in (("good", 2.0), ("cut", 1.0)):
            write_sound(tmp_path / "pairs" / name / "instrumental.wav", make_signal(0, seconds=2.0))
            write_sound(tmp_path / "pairs" / name / "vocals.wav", make_signal(1, seconds=seconds))
        done = prepare("--pairs", tmp_path / "pairs", "--output", output)
        assert done.returncode == 1
        reason = "its halves differ in length (instrumental 2.00 s and vocals 1.00 s); expected"
        assert f"  {tmp_path}/pairs/cut: {reason}" in done.stderr
        assert [track.header.name for track in open_cache(output).tracks] == ["good"]

    def test_all_are_named_when_nothing_can_be_used(self, prepare: Command, vocals: Path, output: Path) -> None:
        for path in vocals.iterdir():
            path.write_bytes(b"no audio")
        done = prepare("--vocals", vocals, "--output", output)
        assert done.returncode == 1
        assert "3 could not be used (and there was nothing else):" in done.stderr
        assert all(f"{vocals}/v{number}.wav: expected" in done.stderr for number in range(3))

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_is_one_sentence_and_exit_code_1(
        self,
        prepare: Command,
        vocals: Path,
        output: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
    ) -> None:
        def fail(_: object) -> None:
            raise OSError(number, os.strerror(number), "cache/vocal/v0.h5")

        monkeypatch.setattr("vrtool.preparation.run.prepare_track", fail)
        done = prepare("--vocals", vocals, "--output", output)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "error: cache/vocal/v0.h5: the disk is full; what was finished is kept, free some space and run the same "
            "command again\n"
        )


class TestRefusals:
    def refused(self, outcome: CompletedProcess[str], message: str) -> None:
        assert outcome.returncode == 2
        assert outcome.stdout == ""
        assert re.fullmatch(f"error: {message}\n", outcome.stderr), outcome.stderr

    def test_no_library(self, vrtool: Command, output: Path) -> None:
        self.refused(
            vrtool("prepare", "--output", output),
            "no library was given; pass --instrumentals, --vocals, --pairs or --npz with a folder",
        )

    def test_a_wrong_path(self, vrtool: Command, tmp_path: Path, output: Path) -> None:
        done = vrtool("prepare", "--vocals", tmp_path / "vocls", "--output", output)
        self.refused(done, f"{tmp_path}/vocls: expected a folder of audio files, found nothing of that name")
        assert not output.exists()

    def test_a_file_for_a_folder(self, vrtool: Command, vocals: Path, output: Path) -> None:
        done = vrtool("prepare", "--vocals", vocals / "v0.wav", "--output", output)
        self.refused(
            done, f"{vocals}/v0.wav: expected a folder of audio files, found a file; give the folder it lies in"
        )

    def test_an_empty_library(self, vrtool: Command, tmp_path: Path, output: Path) -> None:
        (tmp_path / "empty").mkdir()
        done = vrtool("prepare", "--vocals", tmp_path / "empty", "--output", output)
        self.refused(done, f"no audio files in {tmp_path}/empty; expected files ending in .*")

    @pytest.mark.parametrize(("option", "value", "message"), [
        ("--n-fft", "1023", "n_fft must be a positive even number of samples, found 1023; 2048 is usual"),
        ("--hop-length", "2000", r"hop_length must be from 1 to half of n_fft \(1024\), found 2000; .*"),
        ("--sample-rate", "0", "sample_rate must be a positive number of Hz, found 0; 44100 is usual"),
        ("--validation", "1.5", "--validation must be a fraction from 0 to below 1 or a file.*found 1.5"),
        ("--validation", "nofile.txt", "--validation must be a fraction from 0 to below 1 or a file.*found nofile.txt"),
    ])  # fmt: skip
    def test_an_impossible_setting(
        self, vrtool: Command, vocals: Path, output: Path, option: str, value: str, message: str
    ) -> None:
        self.refused(vrtool("prepare", "--vocals", vocals, "--output", output, option, value), message)
        assert not output.exists()

    @pytest.mark.parametrize(("option", "setting", "was", "value"), [
        ("--sample-rate", "sample_rate", 8000, 16000),
        ("--n-fft", "n_fft", 256, 512),
        ("--hop-length", "hop_length", 128, 64),
    ])  # fmt: skip
    def test_a_cache_made_with_another_setting(
        self,
        prepare: Command,
        vocals: Path,
        output: Path,
        option: str,
        setting: str,
        was: int,
        value: int,
    ) -> None:
        command = ("--vocals", vocals, "--output", output)
        prepare(*command)
        before = contents(output)
        self.refused(
            prepare(*command, option, value),
            f"{output} was made with {setting} {was}, this run asks for {value}; "
            f"prepare another cache with {option} {value}, or ask for {was}",
        )
        assert contents(output) == before

    @pytest.mark.parametrize(("was", "wanted"), [("int16", "float32"), ("float32", "int16")])
    def test_a_cache_of_another_precision(
        self, prepare: Command, vocals: Path, output: Path, was: str, wanted: str
    ) -> None:
        command = ("--vocals", vocals, "--output", output)
        prepare(*command, "--precision", was)
        before = contents(output)
        self.refused(
            prepare(*command, "--precision", wanted),
            f"{output} was made with precision {was}, this run asks for {wanted}; prepare another cache, or pass "
            f"--precision {was}",
        )
        assert contents(output) == before

    def test_an_output_that_is_something_else(self, vrtool: Command, vocals: Path, tmp_path: Path) -> None:
        done = vrtool("prepare", "--vocals", vocals, "--output", tmp_path)
        self.refused(
            done, f"{tmp_path}: expected a cache or an empty folder, found other files; choose another --output"
        )

    @pytest.mark.parametrize("words", [
        (), ("--output",), ("--jobs", "0"), ("--output", "x", "--frobnicate"), ("--output", "x", "--precision", "int8"),
    ])  # fmt: skip
    def test_wrong_usage(self, vrtool: Command, words: tuple[str, ...]) -> None:
        done = vrtool("prepare", *words)
        assert done.returncode == 2
        assert "Error" in done.stderr
        assert "Traceback" not in done.stderr

    def test_an_output_below_a_file_is_a_wrong_path(self, prepare: Command, vocals: Path) -> None:
        done = prepare("--vocals", vocals, "--output", vocals / "v0.wav/cache")
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {vocals}/v0.wav/cache: Not a directory; name a path")


class TestDebug:
    @pytest.mark.parametrize("place", [0, 1, 3])
    def test_it_shows_the_traceback_wherever_it_stands_and_leaves_with_the_same_code(
        self, vrtool: Command, tmp_path: Path, output: Path, place: int
    ) -> None:
        words: list[object] = ["prepare", "--vocals", tmp_path / "nowhere", "--output", output]
        done = vrtool(*words[:place], "--debug", *words[place:])
        assert done.returncode == 2
        assert "Traceback (most recent call last):" in done.stderr
        assert done.stderr.endswith("nowhere: expected a folder of audio files, found nothing of that name\n")

    def test_there_is_no_traceback_without_it(self, vrtool: Command, tmp_path: Path) -> None:
        assert "Traceback" not in vrtool("prepare", "--vocals", tmp_path / "nowhere", "--output", tmp_path / "c").stderr
