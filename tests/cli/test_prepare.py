from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from vrtool.audio.waveform import FloatArray
from vrtool.cli import main
from vrtool.dataset.cache import open_cache

Make = Callable[..., FloatArray]
Write = Callable[..., Path]

SMALL = ("--sample-rate", "8000", "--n-fft", "256", "--hop-length", "128", "--minimum-seconds", "0.5")
PATIENCE_SECONDS = 180.0
MANY = 60
"""Tracks of a library that takes so long that a run is still at it when its first track is seen to be finished."""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def vrtool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command line in this process, with a thread in place of worker processes, which take long to start."""
    monkeypatch.setattr("vrtool.preparation.run.process_pool", lambda _: ThreadPoolExecutor(1))

    def run(*words: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["vrtool", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def vocals(tmp_path: Path, make_signal: Make, write_sound: Write) -> Path:
    """A library of three vocal tracks."""
    for number in range(3):
        write_sound(tmp_path / f"vocals/v{number}.wav", make_signal(number, seconds=1.0))
    return tmp_path / "vocals"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestDone:
    def test_libraries_of_all_kinds_become_a_cache(
        self, vrtool: Callable[..., Outcome], small_library: Path, output: Path
    ) -> None:
        done = vrtool(
            "prepare", "--instrumentals", small_library / "instrumentals", "--vocals", small_library / "vocals",
            "--pairs", small_library / "pairs", "--output", output, "--validation", "0.4", *SMALL,
        )  # fmt: skip
        assert (done.code, done.err) == (0, "")
        assert re.fullmatch(
            rf"{output}: 8 tracks, 0\.00 hours, \d for validation \(8 prepared now, 0 were there\)\n", done.out
        )
        cache = open_cache(output)
        assert len(cache.tracks) == 8
        assert all(cache.pool(kind, "validation") for kind in ("instrumental", "vocal", "pair"))

    def test_a_library_may_be_split_over_folders(
        self, vrtool: Callable[..., Outcome], small_library: Path, vocals: Path, output: Path
    ) -> None:
        done = vrtool("prepare", "--vocals", vocals, "--vocals", small_library / "vocals", "-o", output, *SMALL)
        assert done.code == 0
        assert len(open_cache(output).tracks) == 6

    def test_a_second_run_does_nothing_and_leaves_every_byte(
        self, vrtool: Callable[..., Outcome], vocals: Path, output: Path
    ) -> None:
        command = ("prepare", "--vocals", vocals, "--output", output, *SMALL)
        assert vrtool(*command).code == 0
        before = contents(output)
        done = vrtool(*command)
        assert done.code == 0
        assert "3 tracks, 0.00 hours, 1 for validation (0 prepared now, 3 were there)" in done.out
        assert contents(output) == before

    def test_only_a_changed_source_is_redone(
        self, vrtool: Callable[..., Outcome], vocals: Path, output: Path, make_signal: Make, write_sound: Write
    ) -> None:
        command = ("prepare", "--vocals", vocals, "--output", output, *SMALL)
        vrtool(*command)
        write_sound(vocals / "v1.wav", make_signal(9, seconds=1.5))
        assert "(1 prepared now, 2 were there)" in vrtool(*command).out

    def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
        self, vrtool: Callable[..., Outcome], vocals: Path, output: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vrtool.cli.console.SECONDS_BETWEEN_LINES", 0.0)
        done = vrtool("prepare", "--vocals", vocals, "--output", output, *SMALL)
        assert done.err == "preparing: 0 of 0 MB of audio\n" * 3

    def test_names_with_markup_are_printed_as_they_are(
        self, vrtool: Callable[..., Outcome], vocals: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "[bold]100% [cache]"
        assert vrtool("prepare", "--vocals", vocals, "--output", output, *SMALL).out.startswith(f"{output}: 3 tracks")


class TestDryRun:
    def test_it_says_what_it_would_take_and_writes_nothing(
        self, vrtool: Callable[..., Outcome], vocals: Path, output: Path
    ) -> None:
        done = vrtool("prepare", "--vocals", vocals, "--output", output, "--dry-run", "--jobs", "3", *SMALL)
        assert (done.code, done.err) == (0, "")
        lines = done.out.splitlines()
        assert lines[0] == "to prepare      3 tracks, 0.00 hours"
        assert lines[1] == "already there   0 tracks"
        assert re.fullmatch(r"cache grows by  0\.00 GB \(\d+\.\d GB are free\)", lines[2])
        assert re.fullmatch(r"time            about 0\.\d minutes with 3 jobs", lines[3])
        assert not output.exists()

    def test_it_counts_what_is_there(self, vrtool: Callable[..., Outcome], vocals: Path, output: Path) -> None:
        command = ("prepare", "--vocals", vocals, "--output", output, *SMALL)
        vrtool(*command)
        before = contents(output)
        done = vrtool(*command, "--dry-run")
        assert done.out.splitlines()[:2] == ["to prepare      0 tracks, 0.00 hours", "already there   3 tracks"]
        assert contents(output) == before

    def test_files_it_cannot_use_are_named(
        self, vrtool: Callable[..., Outcome], small_library: Path, output: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(small_library / "pairs", tmp_path / "pairs")
        (tmp_path / "pairs/mono/vocals.wav").unlink()
        done = vrtool("prepare", "--pairs", tmp_path / "pairs", "--output", output, "--dry-run", *SMALL)
        assert done.code == 1
        assert "1 could not be used (found before decoding anything):" in done.err
        assert f"  {tmp_path}/pairs/mono: expected mixture.*" in done.err


class TestProblems:
    def test_a_broken_file_is_named_at_the_end_and_the_others_are_done(
        self, vrtool: Callable[..., Outcome], vocals: Path, output: Path, write_sound: Write, make_signal: Make
    ) -> None:
        (vocals / "v1.wav").write_bytes(b"RIFF....no wave")
        write_sound(vocals / "silent.wav", make_signal(0) * 0)
        write_sound(vocals / "short.wav", make_signal(0, seconds=0.1))
        write_sound(vocals / "six.wav", make_signal(0, num_channels=6))
        write_sound(vocals / "nan.wav", make_signal(0) * float("nan"))
        done = vrtool("prepare", "--vocals", vocals, "--output", output, *SMALL)
        assert done.code == 1
        assert "2 tracks" in done.out
        lines = done.err.splitlines()
        assert lines[1] == "5 could not be used (everything else is in the cache):"
        assert lines[2:5] == [
            f"  {vocals}/nan.wav: has 32000 samples that are NaN or infinite; export it again",
            f"  {vocals}/short.wav: is 0.10 s long, expected at least 0.5 s (--minimum-seconds)",
            f"  {vocals}/silent.wav: is silent throughout",
        ]
        assert lines[5] == f"  {vocals}/six.wav: has 6 channels, expected mono or stereo; mix it down"
        assert lines[6].startswith(f"  {vocals}/v1.wav: expected")
        assert len(lines) == 7
        assert [track.header.name for track in open_cache(output).tracks] == ["v0", "v2"]

    def test_halves_of_different_length_are_named_with_their_song(
        self, vrtool: Callable[..., Outcome], tmp_path: Path, output: Path, write_sound: Write, make_signal: Make
    ) -> None:
        for name, seconds in (("good", 2.0), ("cut", 1.0)):
            write_sound(tmp_path / "pairs" / name / "mixture.wav", make_signal(0, seconds=2.0))
            write_sound(tmp_path / "pairs" / name / "instrumental.wav", make_signal(1, seconds=seconds))
        done = vrtool("prepare", "--pairs", tmp_path / "pairs", "--output", output, *SMALL)
        assert done.code == 1
        reason = "its halves differ in length (mixture 2.00 s and instrumental 1.00 s); expected"
        assert f"  {tmp_path}/pairs/cut: {reason}" in done.err
        assert [track.header.name for track in open_cache(output).tracks] == ["good"]

    def test_all_are_named_when_nothing_can_be_used(
        self, vrtool: Callable[..., Outcome], vocals: Path, output: Path
    ) -> None:
        for path in vocals.iterdir():
            path.write_bytes(b"no audio")
        done = vrtool("prepare", "--vocals", vocals, "--output", output, *SMALL)
        assert done.code == 1
        assert "3 could not be used (and there was nothing else):" in done.err
        assert all(f"{vocals}/v{number}.wav: expected" in done.err for number in range(3))

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_is_one_sentence_and_exit_code_1(
        self,
        vrtool: Callable[..., Outcome],
        vocals: Path,
        output: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
    ) -> None:
        def fail(_: object) -> None:
            raise OSError(number, os.strerror(number), "cache/vocal/v0.h5")

        monkeypatch.setattr("vrtool.preparation.run.prepare_track", fail)
        done = vrtool("prepare", "--vocals", vocals, "--output", output, *SMALL)
        assert (done.code, done.out) == (1, "")
        assert done.err == (
            "error: cache/vocal/v0.h5: the disk is full; what was finished is kept, free some space and run the same "
            "command again\n"
        )


class TestRefusals:
    def refused(self, outcome: Outcome, message: str) -> None:
        assert outcome.code == 2
        assert outcome.out == ""
        assert re.fullmatch(f"error: {message}\n", outcome.err), outcome.err

    def test_no_library(self, vrtool: Callable[..., Outcome], output: Path) -> None:
        self.refused(
            vrtool("prepare", "--output", output),
            "no library was given; pass --instrumentals, --vocals or --pairs with a folder of audio",
        )

    def test_a_wrong_path(self, vrtool: Callable[..., Outcome], tmp_path: Path, output: Path) -> None:
        done = vrtool("prepare", "--vocals", tmp_path / "vocls", "--output", output)
        self.refused(done, f"{tmp_path}/vocls: expected a folder of audio files, found nothing of that name")
        assert not output.exists()

    def test_a_file_for_a_folder(self, vrtool: Callable[..., Outcome], vocals: Path, output: Path) -> None:
        done = vrtool("prepare", "--vocals", vocals / "v0.wav", "--output", output)
        self.refused(
            done, f"{vocals}/v0.wav: expected a folder of audio files, found a file; give the folder it lies in"
        )

    def test_an_empty_library(self, vrtool: Callable[..., Outcome], tmp_path: Path, output: Path) -> None:
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
        self, vrtool: Callable[..., Outcome], vocals: Path, output: Path, option: str, value: str, message: str
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
        vrtool: Callable[..., Outcome],
        vocals: Path,
        output: Path,
        option: str,
        setting: str,
        was: int,
        value: int,
    ) -> None:
        command = ("prepare", "--vocals", vocals, "--output", output, *SMALL)
        vrtool(*command)
        before = contents(output)
        self.refused(
            vrtool(*command, option, value),
            f"{output} was made with {setting} {was}, this run asks for {value}; "
            f"prepare another cache with {option} {value}, or ask for {was}",
        )
        assert contents(output) == before

    def test_an_output_that_is_something_else(
        self, vrtool: Callable[..., Outcome], vocals: Path, tmp_path: Path
    ) -> None:
        done = vrtool("prepare", "--vocals", vocals, "--output", tmp_path)
        self.refused(
            done, f"{tmp_path}: expected a cache or an empty folder, found other files; choose another --output"
        )

    @pytest.mark.parametrize("words", [(), ("--output",), ("--jobs", "0"), ("--output", "x", "--frobnicate")])
    def test_wrong_usage(self, vrtool: Callable[..., Outcome], words: tuple[str, ...]) -> None:
        done = vrtool("prepare", *words)
        assert done.code == 2
        assert "Error" in done.err
        assert "Traceback" not in done.err

    def test_an_output_below_a_file_is_a_wrong_path(self, vrtool: Callable[..., Outcome], vocals: Path) -> None:
        done = vrtool("prepare", "--vocals", vocals, "--output", vocals / "v0.wav/cache", *SMALL)
        assert done.code == 2
        assert done.err.startswith(f"error: {vocals}/v0.wav/cache: Not a directory; name a path")


class TestDebug:
    @pytest.mark.parametrize("place", [0, 1, 3])
    def test_it_shows_the_traceback_wherever_it_stands_and_leaves_with_the_same_code(
        self, vrtool: Callable[..., Outcome], tmp_path: Path, output: Path, place: int
    ) -> None:
        words: list[object] = ["prepare", "--vocals", tmp_path / "nowhere", "--output", output]
        done = vrtool(*words[:place], "--debug", *words[place:])
        assert done.code == 2
        assert "Traceback (most recent call last):" in done.err
        assert done.err.endswith("nowhere: expected a folder of audio files, found nothing of that name\n")

    def test_there_is_no_traceback_without_it(self, vrtool: Callable[..., Outcome], tmp_path: Path) -> None:
        assert "Traceback" not in vrtool("prepare", "--vocals", tmp_path / "nowhere", "--output", tmp_path / "c").err


# From here on real processes.


@pytest.fixture
def many(tmp_path: Path, make_signal: Make, write_sound: Write) -> Path:
    first = write_sound(tmp_path / "many/t000.wav", make_signal(0, seconds=5.0))
    for number in range(1, MANY):
        os.link(first, first.with_name(f"t{number:03}.wav"))
    return tmp_path / "many"


def command(library: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "vrtool", "prepare", "--vocals", str(library), "--output", str(output), *SMALL, *more]


@pytest.fixture
def started(many: Path, output: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """`started(pattern)` gives a run of its own process group as soon as its cache has a file that matches."""
    processes = []

    def start(pattern: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(many, output, "--jobs", "1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        wait_until(lambda: any(output.glob(pattern)) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        return process

    yield start
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def said(errors: str) -> str:
    """Return what a run wrote to standard error but for the progress that slow ones report now and then."""
    return re.sub(r"^preparing: .*\n", "", errors, flags=re.MULTILINE)


def is_alive(process_group: int) -> bool:
    try:
        os.killpg(process_group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name != "posix", reason="signals and process groups")
class TestEnds:
    @pytest.mark.parametrize("moment", ["manifest.json", "vocal/*.h5"])
    def test_a_run_killed_at_any_moment_and_started_again_ends_as_if_undisturbed(
        self,
        started: Callable[[str], subprocess.Popen[str]],
        vrtool: Callable[..., Outcome],
        many: Path,
        output: Path,
        moment: str,
    ) -> None:
        process = started(moment)
        process.kill()
        process.wait()
        # Its worker ends by itself and writes no more.
        wait_until(lambda: not is_alive(process.pid))
        finished = {path.name for path in output.glob("vocal/[!.]*.h5")}
        assert len(finished) < MANY
        done = vrtool("prepare", "--vocals", many, "--output", output, *SMALL)
        assert f"({MANY - len(finished)} prepared now, {len(finished)} were there)" in done.out
        resumed = contents(output)
        shutil.rmtree(output)
        vrtool("prepare", "--vocals", many, "--output", output, *SMALL)
        assert contents(output) == resumed

    def test_ctrl_c_is_a_sentence_exit_code_1_and_a_whole_cache(
        self, started: Callable[[str], subprocess.Popen[str]], output: Path
    ) -> None:
        process = started("vocal/*.h5")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, out) == (1, "")
        kept = rf"(\d+) of {MANY} tracks were prepared and are kept"
        message = re.fullmatch(rf"error: interrupted: {kept}; run the same command again to go on\n", said(err))
        assert message, err
        tracks = open_cache(output).tracks
        assert len(tracks) == int(message[1]) < MANY
        assert [track.verify() for track in tracks] == [None] * len(tracks)
        assert sorted(output.rglob("*.h5")) == [track.path for track in tracks]

    def test_ctrl_c_before_the_first_track_is_a_sentence_too(
        self, started: Callable[[str], subprocess.Popen[str]]
    ) -> None:
        process = started("manifest.json")
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 1
        assert re.fullmatch(r"error: interrupted.*\n", said(err)), err


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=1m", "vrtool-test", str(disk)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


class TestDiskFull:
    def test_it_ends_with_one_sentence_and_whole_files_only(
        self, tiny_disk: Path, many: Path, vrtool: Callable[..., Outcome]
    ) -> None:
        output = tiny_disk / "cache"
        done = subprocess.run(
            command(many, output, "--jobs", "2"), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(
            rf"error: {output}/\S+: the disk is full; what was finished is kept, free some space and run the same "
            r"command again\n",
            said(done.stderr),
        ), done.stderr
        finished = {path: path.read_bytes() for path in output.rglob("*.h5")}
        assert finished
        assert {path.name for path in output.rglob(".*")} == set()
        subprocess.run(["mount", "-o", "remount,size=100m", str(tiny_disk)], check=True)
        again = vrtool("prepare", "--vocals", many, "--output", output, *SMALL)
        assert f"({MANY - len(finished)} prepared now, {len(finished)} were there)" in again.out
        assert {path: path.read_bytes() for path in finished} == finished


def test_the_module_is_the_command(small_library: Path, output: Path) -> None:
    """One run as a person would do it, with worker processes."""
    done = subprocess.run(
        command(small_library / "vocals", output, "--jobs", "2"), capture_output=True, text=True, check=True
    )
    assert said(done.stderr) == ""
    assert done.stdout == f"{output}: 3 tracks, 0.00 hours, 1 for validation (3 prepared now, 0 were there)\n"
