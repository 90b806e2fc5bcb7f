"""`vrtool prepare` as a person runs it: in processes that are killed, interrupted, run side by side, out of space."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from vrtool.audio import spool as spool_module
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import open_cache
from vrtool.preparation import Library, PreparationSettings, plan_preparation
from vrtool.preparation import prepare as prepare_plan

Make = Callable[..., FloatArray]
Write = Callable[..., Path]
Command = Callable[..., CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]

PATIENCE_SECONDS = 180.0
NUM_PAIRS = 6
MANY = 60
"""Tracks of a library that takes so long that a run is still at it when its first tracks are seen to be finished."""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the libraries `many` and `pairs` lie. Not to be changed."""
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture(scope="module")
def many(libraries: Path, make_signal: Make, write_sound: Write) -> Path:
    first = write_sound(libraries / "many/t000.wav", make_signal(0, seconds=5.0))
    for number in range(1, MANY):
        os.link(first, first.with_name(f"t{number:03}.wav"))
    return libraries / "many"


@pytest.fixture(scope="module")
def pairs(libraries: Path, make_signal: Make, write_sound: Write) -> Path:
    """Six pairs that have to be aligned."""
    for number in range(NUM_PAIRS):
        instrumental, voice = (make_signal(seed, seconds=4.0, level=0.05) for seed in (number, number + 50))
        write_sound(libraries / f"pairs/song{number}/mixture.wav", instrumental + voice)
        write_sound(libraries / f"pairs/song{number}/instrumental.wav", 2 * instrumental[:, 100 * number :])
    return libraries / "pairs"


@pytest.fixture(scope="module")
def undisturbed(many: Path, pairs: Path, libraries: Path, tiny_stft: StftSpec) -> dict[str, bytes]:
    """The contents of the cache of both libraries, prepared in one go."""
    settings = PreparationSettings(output=libraries / "cache", stft=tiny_stft, minimum_seconds=0.5)
    both = [Library(kind="vocal", root=many), Library(kind="pair", root=pairs)]
    with ThreadPoolExecutor(1) as executor:
        report = prepare_plan(plan_preparation(both, settings), executor)
    assert report.problems == ()
    return contents(settings.output)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def track_files(output: Path) -> dict[Path, tuple[int, int]]:
    """The finished tracks' files; they are others if they have been written again."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.glob("*/[!.]*.h5")}


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def wait_for_tracks(process: subprocess.Popen[str], output: Path, number: int) -> None:
    """Wait until a running preparation has begun its cache, has finished some tracks and is at the next ones."""
    begun = output / "manifest.json"
    wait_until(lambda: (begun.exists() and len(track_files(output)) >= number) or process.poll() is not None)
    assert process.poll() is None, process.communicate()


def said(errors: str) -> str:
    """Return what a run wrote to standard error but for the progress that slow ones report now and then."""
    return re.sub(r"^preparing: .*\n", "", errors, flags=re.MULTILINE)


@pytest.mark.skipif(os.name != "posix", reason="signals and process groups")
class TestKilled:
    def test_a_run_killed_at_any_moments_and_run_to_its_end_is_as_if_undisturbed(
        self,
        start_prepare: Start,
        prepare: Command,
        many: Path,
        pairs: Path,
        output: Path,
        undisturbed: dict[str, bytes],
    ) -> None:
        words = ("--vocals", many, "--pairs", pairs, "--output", output)
        rng = np.random.default_rng(0)
        finished: dict[Path, tuple[int, int]] = {}
        for num_jobs, num_more, with_workers in ((1, 0, True), (2, 1, True), (1, 4, False), (2, 7, True)):
            process = start_prepare(*words, "--jobs", num_jobs)
            wait_for_tracks(process, output, len(finished) + num_more)
            time.sleep(rng.uniform(0.0, 0.02))
            if with_workers:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            # To the end of what its workers could say: they have ended, too, by themselves if need be.
            process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == -signal.SIGKILL
            now = track_files(output)
            assert finished.items() <= now.items()
            finished = now
        assert 0 < len(finished) < MANY
        done = prepare(*words)
        missing = MANY + NUM_PAIRS - len(finished)
        assert f"({missing} prepared now, {len(finished)} were there)" in done.stdout
        assert finished.items() <= track_files(output).items()
        # What was left half-written would be in it, too.
        assert contents(output) == undisturbed

    def test_ctrl_c_is_a_sentence_exit_code_1_and_a_whole_cache(
        self, start_prepare: Start, many: Path, output: Path
    ) -> None:
        process = start_prepare("--vocals", many, "--output", output, "--jobs", "1")
        wait_for_tracks(process, output, 1)
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
        self, start_prepare: Start, many: Path, output: Path
    ) -> None:
        process = start_prepare("--vocals", many, "--output", output, "--jobs", "1")
        wait_for_tracks(process, output, 0)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 1
        assert re.fullmatch(r"error: interrupted.*\n", said(err)), err


@pytest.mark.skipif(os.name != "posix", reason="signals and process groups")
class TestTwoAtTheSameTime:
    @pytest.mark.parametrize("shares_a_library", [True, False])
    def test_both_end_well_and_together_make_the_cache_of_one(
        self,
        start_prepare: Start,
        many: Path,
        pairs: Path,
        output: Path,
        undisturbed: dict[str, bytes],
        shares_a_library: bool,
    ) -> None:
        first = ("--vocals", many)
        second = ("--pairs", pairs, *(first if shares_a_library else ()))
        processes = [start_prepare(*words, "--output", output, "--jobs", "1") for words in (first, second)]
        for process in processes:
            _, err = process.communicate(timeout=PATIENCE_SECONDS)
            assert (process.returncode, said(err)) == (0, "")
        tracks = open_cache(output).tracks
        assert [track.verify() for track in tracks] == [None] * (MANY + NUM_PAIRS)
        assert contents(output) == undisturbed

    def test_one_of_them_killed_leaves_no_trace_when_the_other_ends(
        self, start_prepare: Start, many: Path, pairs: Path, output: Path, undisturbed: dict[str, bytes]
    ) -> None:
        words = ("--vocals", many, "--pairs", pairs, "--output", output)
        killed, other = (start_prepare(*words, "--jobs", "1") for _ in range(2))
        wait_for_tracks(killed, output, 3)
        os.killpg(killed.pid, signal.SIGKILL)
        _, err = other.communicate(timeout=PATIENCE_SECONDS)
        assert (other.returncode, said(err)) == (0, "")
        assert contents(output) == undisturbed


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
        self,
        tiny_disk: Path,
        tmp_path: Path,
        start_prepare: Start,
        prepare: Command,
        make_signal: Make,
        write_sound: Write,
    ) -> None:
        for number in range(10):
            write_sound(tmp_path / f"vocals/v{number}.wav", make_signal(number, seconds=5.0))  # 0.33 MB of cache
        output = tiny_disk / "cache"
        words = ("--vocals", tmp_path / "vocals", "--output", output)
        process = start_prepare(*words, "--jobs", "2")
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, out) == (1, "")
        assert re.fullmatch(
            rf"error: {output}/\S+: the disk is full; what was finished is kept, free some space and run the same "
            r"command again\n",
            said(err),
        ), err
        finished = track_files(output)
        assert finished
        assert not list(output.rglob(".*partial*"))
        subprocess.run(["mount", "-o", "remount,size=100m", str(tiny_disk)], check=True)
        again = prepare(*words)
        assert f"({10 - len(finished)} prepared now, {len(finished)} were there)" in again.stdout
        assert finished.items() <= track_files(output).items()
        assert [track.verify() for track in open_cache(output).tracks] == [None] * 10

    def test_a_track_whose_audio_alone_is_too_large_is_no_other_matter(
        self,
        tiny_disk: Path,
        prepare: Command,
        tmp_path: Path,
        make_signal: Make,
        write_sound: Write,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(spool_module, "MEMORY_BYTES", 1)
        write_sound(tmp_path / "vocals/v.wav", make_signal(0, seconds=17.0))  # 1.09 MB
        output = tiny_disk / "cache"
        done = prepare("--vocals", tmp_path / "vocals", "--output", output)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"error: {output}/vocal: the disk is full; what was finished is kept, free some space and run the same "
            "command again\n"
        )
        assert list((output / "vocal").iterdir()) == []
        assert shutil.disk_usage(tiny_disk).used < 100_000


def test_the_module_is_the_command(small_library: Path, start_prepare: Start, output: Path) -> None:
    """One run as a person would do it, with worker processes."""
    process = start_prepare("--vocals", small_library / "vocals", "--output", output, "--jobs", "2")
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, said(err)) == (0, "")
    assert out == f"{output}: 3 tracks, 0.00 hours, 1 for validation (3 prepared now, 0 were there)\n"
