from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from vrtool.atomic import atomic_path
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import is_cache, open_cache, read_manifest
from vrtool.errors import AudioError, CacheError, InterruptedRunError, JobError
from vrtool.locking import exclusive_lock
from vrtool.preparation import (
    Library,
    PreparationPlan,
    PreparationReport,
    PreparationSettings,
    Progress,
    plan_preparation,
    prepare,
)
from vrtool.preparation.executors import process_pool
from vrtool.preparation.plan import LOCK_NAME

Make = Callable[..., FloatArray]
Write = Callable[..., Path]


@pytest.fixture
def plan(tmp_path: Path, make_signal: Make, write_sound: Write, tiny_stft: StftSpec) -> PreparationPlan:
    """The preparation of five vocal tracks."""
    for number in range(5):
        write_sound(tmp_path / f"vocals/v{number}.wav", make_signal(number, seconds=1.0))
    settings = PreparationSettings(output=tmp_path / "cache", stft=tiny_stft, validation="0", minimum_seconds=0.5)
    return plan_preparation([Library(kind="vocal", root=tmp_path / "vocals")], settings)


@pytest.fixture
def again(plan: PreparationPlan, tmp_path: Path) -> Callable[[], PreparationPlan]:
    """Plans the same preparation once more."""
    return lambda: plan_preparation([Library(kind="vocal", root=tmp_path / "vocals")], plan.settings)


class InTurn(Executor):
    """Runs every task when it is submitted; `failures` (by number) are raised in place of some."""

    def __init__(self, failures: dict[int, BaseException] | None = None) -> None:
        self._failures = failures or {}
        self._submitted = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        number, self._submitted = self._submitted, self._submitted + 1
        try:
            if number in self._failures:
                raise self._failures[number]
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def names(report: PreparationReport) -> list[str]:
    return [track.header.name for track in report.cache.tracks]


class TestReport:
    def test_everything_is_prepared_whatever_the_executor(self, plan: PreparationPlan) -> None:
        report = prepare(plan, InTurn())
        assert names(report) == ["v0", "v1", "v2", "v3", "v4"]
        assert (report.num_prepared, report.num_unchanged, report.problems) == (5, 0, ())
        assert open_cache(plan.settings.output) == report.cache

    def test_progress_rises_to_all_tracks_and_all_bytes(self, plan: PreparationPlan) -> None:
        seen: list[Progress] = []
        prepare(plan, InTurn(), seen.append)
        total = sum(path.stat().st_size for path in (plan.settings.output.parent / "vocals").iterdir())
        assert [progress.done_tracks for progress in seen] == [1, 2, 3, 4, 5]
        assert [progress.done_bytes for progress in seen] == sorted(progress.done_bytes for progress in seen)
        assert (seen[-1].total_tracks, seen[-1].total_bytes, seen[-1].done_bytes) == (5, total, total)


class TestProblems:
    @pytest.mark.parametrize(("failure", "reason"), [
        (AudioError("has hiccups"), "has hiccups"),
        (OSError(errno.EIO, "Input/output error", "v.wav"), "v.wav: Input/output error"),
        (OSError("something odd"), "something odd"),
        (MemoryError(), "is too long for the memory there is; cut it into parts or use fewer --jobs"),
    ])  # fmt: skip
    def test_a_track_that_fails_is_named_and_the_others_are_done(
        self, plan: PreparationPlan, failure: BaseException, reason: str
    ) -> None:
        report = prepare(plan, InTurn({2: failure}))
        assert names(report) == ["v0", "v1", "v3", "v4"]
        assert [(problem.path, problem.reason) for problem in report.problems] == [
            (str(plan.tasks[2].track.sources["vocals"][0].path), reason)
        ]

    def test_a_message_that_begins_with_the_files_name_does_not_say_it_twice(self, plan: PreparationPlan) -> None:
        path = plan.tasks[2].track.sources["vocals"][0].path
        report = prepare(plan, InTurn({2: AudioError(f"{path}: expected audio")}))
        assert report.problems[0].reason == "expected audio"

    def test_a_pair_is_named_by_its_folder(self, small_library: Path, tmp_path: Path, tiny_stft: StftSpec) -> None:
        settings = PreparationSettings(output=tmp_path / "cache", stft=tiny_stft, minimum_seconds=60.0)
        pairs = plan_preparation([Library(kind="pair", root=small_library / "pairs")], settings)
        report = prepare(pairs, InTurn())
        assert [problem.path for problem in report.problems] == [
            str(small_library / "pairs/mono"), str(small_library / "pairs/stereo"),
        ]  # fmt: skip

    def test_what_discovery_found_unusable_comes_first(
        self, again: Callable[[], PreparationPlan], plan: PreparationPlan, tmp_path: Path
    ) -> None:
        assert plan.problems == ()
        (tmp_path / "vocals/z.wav").symlink_to("nowhere")
        report = prepare(again(), InTurn({0: AudioError("has hiccups")}))
        reasons = [problem.reason for problem in report.problems]
        assert reasons == ["expected a file, found a broken link", "has hiccups"]

    def test_all_are_named_when_none_can_be_used(self, plan: PreparationPlan) -> None:
        report = prepare(plan, InTurn({number: AudioError(f"is broken {number}") for number in range(5)}))
        assert report.cache.tracks == ()
        assert [problem.reason for problem in report.problems] == [f"is broken {number}" for number in range(5)]

    def test_the_only_track_that_broke_leaves_an_empty_cache(
        self, plan: PreparationPlan, again: Callable[[], PreparationPlan], tmp_path: Path
    ) -> None:
        for number in range(1, 5):
            (tmp_path / f"vocals/v{number}.wav").unlink()
        assert plan.tasks
        assert names(prepare(again(), InTurn())) == ["v0"]
        (tmp_path / "vocals/v0.wav").write_bytes(b"no audio")
        assert prepare(again(), InTurn()).cache.tracks == ()
        assert read_manifest(plan.settings.output).tracks == ()

    def test_a_track_that_broke_since_it_was_prepared_leaves_the_manifest(
        self, plan: PreparationPlan, again: Callable[[], PreparationPlan], tmp_path: Path
    ) -> None:
        prepare(plan, InTurn())
        (tmp_path / "vocals/v1.wav").write_bytes(b"no audio")
        report = prepare(again(), InTurn())
        assert names(report) == ["v0", "v2", "v3", "v4"]
        assert open_cache(plan.settings.output) == report.cache


class TestOrder:
    def test_the_longest_tracks_come_first(
        self, again: Callable[[], PreparationPlan], plan: PreparationPlan, make_signal: Make, write_sound: Write
    ) -> None:
        library = plan.settings.output.parent / "vocals"
        for number, seconds in ((1, 0.8), (3, 3.0), (4, 2.0)):
            write_sound(library / f"v{number}.wav", make_signal(number, seconds=seconds))

        class Noting(InTurn):
            names: ClassVar[list[str]] = []

            def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
                self.names.append(args[0].track.name)
                return super().submit(fn, *args, **kwargs)

        prepare(again(), Noting())
        assert Noting.names == ["v3", "v4", "v0", "v2", "v1"]


class TestOtherMachines:
    def test_a_relative_cache_is_where_this_process_has_it(
        self, plan: PreparationPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Elsewhere(InTurn):
            def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
                with contextlib.chdir("/"):
                    return super().submit(fn, *args, **kwargs)

        monkeypatch.chdir(tmp_path)
        settings = replace(plan.settings, output=Path("cache"))
        report = prepare(plan_preparation([Library(kind="vocal", root=tmp_path / "vocals")], settings), Elsewhere())
        assert len(report.cache.tracks) == 5
        assert open_cache(tmp_path / "cache").tracks[0].path.is_file()

    def test_a_track_that_a_worker_wrote_to_its_own_disk_ends_the_run(
        self, plan: PreparationPlan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class OtherDisk(InTurn):
            def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
                future = super().submit(fn, *args, **kwargs)
                args[0].destination.unlink()
                return future

        monkeypatch.setattr("vrtool.preparation.run.UNSEEN_SECONDS", 0.0)
        with pytest.raises(
            JobError, match=r"\.h5: a worker has finished it, but it is not here; the cache must lie on"
        ):
            prepare(plan, OtherDisk())

    def test_a_source_that_only_this_process_sees_ends_the_run_and_keeps_what_is_done(
        self, plan: PreparationPlan, again: Callable[[], PreparationPlan]
    ) -> None:
        source = str(plan.tasks[2].track.sources["vocals"][0].path)
        unseen = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        with pytest.raises(
            JobError, match=r"v2\.wav: it is here, but a worker does not find it; libraries must lie on"
        ):
            prepare(plan, InTurn({2: unseen}))
        assert [task.track.name for task in again().tasks] == ["v2"]

    def test_what_workers_that_died_left_half_written_is_cleared_away(self, plan: PreparationPlan) -> None:
        class Leaving(InTurn):
            def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
                destination: Path = args[0].destination
                destination.parent.mkdir(exist_ok=True)
                destination.with_name(f".{destination.stem}.partial-0123abcd.h5").write_bytes(b"half")
                return super().submit(fn, *args, **kwargs)

        prepare(plan, Leaving())
        assert not list(plan.settings.output.rglob(".*.partial*"))


class Meanwhile(InTurn):
    """Something else happens when the first task is submitted: all is planned then, and nothing is done."""

    def __init__(self, happens: Callable[[], object], failures: dict[int, BaseException] | None = None) -> None:
        super().__init__(failures)
        self._happens = happens

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._submitted == 0:
            self._happens()
        return super().submit(fn, *args, **kwargs)


class TestOthersAtTheSameTime:
    """Another preparation into the same cache, from its beginning to its end in the midst of this one."""

    @pytest.fixture
    def other(self, plan: PreparationPlan, tmp_path: Path, make_signal: Make, write_sound: Write) -> Library:
        """Another library, with two tracks of its own."""
        assert plan.tasks
        for number in range(2):
            write_sound(tmp_path / f"other/w{number}.wav", make_signal(9 + number, seconds=1.0))
        return Library(kind="vocal", root=tmp_path / "other")

    def test_tracks_of_other_libraries_are_in_the_manifest_too(self, plan: PreparationPlan, other: Library) -> None:
        report = prepare(plan, Meanwhile(lambda: prepare(plan_preparation([other], plan.settings), InTurn())))
        assert names(report) == ["v0", "v1", "v2", "v3", "v4", "w0", "w1"]
        assert open_cache(plan.settings.output) == report.cache

    def test_tracks_of_the_same_library_are_not_done_twice(
        self, plan: PreparationPlan, again: Callable[[], PreparationPlan]
    ) -> None:
        done: dict[Path, tuple[int, int]] = {}

        def happens() -> None:
            for track in prepare(again(), InTurn()).cache.tracks:
                done[track.path] = (track.path.stat().st_ino, track.path.stat().st_mtime_ns)

        report = prepare(plan, Meanwhile(happens))
        assert names(report) == ["v0", "v1", "v2", "v3", "v4"]
        assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in done} == done

    @pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device", "x")])
    def test_what_they_have_done_is_kept_when_this_one_does_not_come_to_its_end(
        self, plan: PreparationPlan, again: Callable[[], PreparationPlan], failure: BaseException
    ) -> None:
        with pytest.raises((InterruptedRunError, OSError)):
            prepare(plan, Meanwhile(lambda: prepare(again(), InTurn()), {1: failure}))
        cache = open_cache(plan.settings.output)
        assert [track.header.name for track in cache.tracks] == ["v0", "v1", "v2", "v3", "v4"]
        assert [track.verify() for track in cache.tracks] == [None] * 5

    def test_a_track_that_changed_and_failed_is_not_kept_for_what_it_was(
        self, plan: PreparationPlan, again: Callable[[], PreparationPlan], make_signal: Make, write_sound: Write
    ) -> None:
        prepare(plan, InTurn())
        path = plan.tasks[1].track.sources["vocals"][0].path
        write_sound(path, make_signal(99, seconds=1.0))
        changed = again()
        report = prepare(changed, Meanwhile(path.unlink, {0: AudioError("is gone")}))
        assert names(report) == ["v0", "v2", "v3", "v4"]
        assert open_cache(plan.settings.output) == report.cache

    def test_what_they_have_pruned_is_not_listed(
        self, plan: PreparationPlan, again: Callable[[], PreparationPlan], make_signal: Make, write_sound: Write
    ) -> None:
        prepare(plan, InTurn())
        gone = {plan.tasks[number].track.sources["vocals"][0].path for number in (1, 3)}
        library = plan.settings.output.parent / "vocals"
        (library / "v1.wav").unlink()
        write_sound(library / "v5.wav", make_signal(5, seconds=1.0))
        mine = again()

        def prune() -> None:
            (library / "v3.wav").unlink()
            settings = replace(plan.settings, prune=True)
            prepare(plan_preparation([Library(kind="vocal", root=library)], settings), InTurn())

        report = prepare(mine, Meanwhile(prune))
        assert len(gone) == 2
        assert names(report) == ["v0", "v2", "v4", "v5"]
        assert open_cache(plan.settings.output) == report.cache

    @pytest.mark.parametrize(("setting", "message"), [
        ({"stft": StftSpec(sample_rate=8000, n_fft=256, hop_length=64)}, "was made with hop_length 64"),
        ({"precision": "float32"}, "was made with precision float32"),
    ])  # fmt: skip
    def test_a_cache_that_has_got_other_settings_is_left_to_those(
        self, plan: PreparationPlan, other: Library, setting: dict[str, Any], message: str
    ) -> None:
        settings = replace(plan.settings, **setting)
        with pytest.raises(CacheError, match=message):
            prepare(plan, Meanwhile(lambda: prepare(plan_preparation([other], settings), InTurn())))
        cache = open_cache(plan.settings.output)
        assert [track.header.name for track in cache.tracks] == ["w0", "w1"]
        assert {(track.header.stft, track.header.precision) for track in cache.tracks} == {
            (settings.stft, settings.precision)
        }

    def test_a_cache_is_not_begun_while_another_has_its_lock(self, plan: PreparationPlan) -> None:
        output = plan.settings.output
        output.mkdir()
        thread = threading.Thread(target=prepare, args=(plan, InTurn()))
        with exclusive_lock(output / LOCK_NAME):
            thread.start()
            thread.join(0.3)
            assert not is_cache(output)
        thread.join()
        assert len(open_cache(output).tracks) == 5

    def test_the_last_manifest_is_not_written_while_another_has_the_lock(self, plan: PreparationPlan) -> None:
        output = plan.settings.output
        has_begun, goes_on = threading.Event(), threading.Event()

        def happens() -> None:
            has_begun.set()
            goes_on.wait()

        thread = threading.Thread(target=prepare, args=(plan, Meanwhile(happens)))
        thread.start()
        has_begun.wait()
        with exclusive_lock(output / LOCK_NAME):
            goes_on.set()
            thread.join(0.5)
            assert thread.is_alive()
            assert read_manifest(output).tracks == ()
        thread.join()
        assert len(open_cache(output).tracks) == 5

    def test_what_another_is_writing_is_not_taken_for_abandoned(self, plan: PreparationPlan) -> None:
        unfinished = plan.settings.output / "vocal/another.h5"
        unfinished.parent.mkdir(parents=True)
        with atomic_path(unfinished) as partial:
            partial.write_bytes(b"half")
            prepare(plan, InTurn())
            assert partial.read_bytes() == b"half"
        assert unfinished.read_bytes() == b"half"


class TestDiskFull:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_it_stops_the_run_and_keeps_what_is_done(
        self, plan: PreparationPlan, again: Callable[[], PreparationPlan], number: int
    ) -> None:
        failure = OSError(number, os.strerror(number), "cache/vocal/v2.h5")
        with pytest.raises(OSError, match=r"v2\.h5") as caught:
            prepare(plan, InTurn(dict.fromkeys((2, 3, 4), failure)))
        assert caught.value.errno == number
        assert [task.track.name for task in again().tasks] == ["v2", "v3", "v4"]


class TestInterruption:
    def test_tracks_under_way_are_finished_and_kept_and_the_rest_is_not_begun(
        self, plan: PreparationPlan, again: Callable[[], PreparationPlan]
    ) -> None:
        class SecondUnderWay(Executor):
            """Has done the first track, is at the second and has not begun the others."""

            def __init__(self) -> None:
                self.submitted: list[Future[Any]] = []
                self.interrupted = threading.Event()

            def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
                future: Future[Any] = Future()
                self.submitted.append(future)
                if len(self.submitted) == 1:
                    future.set_result(fn(*args, **kwargs))
                elif len(self.submitted) == 2:
                    future.set_running_or_notify_cancel()
                    threading.Thread(target=self.finish, args=(future, lambda: fn(*args, **kwargs))).start()
                return future

            def finish(self, future: Future[Any], work: Callable[[], Any]) -> None:
                self.interrupted.wait()
                future.set_result(work())

            def interrupt(self, _: Progress) -> None:
                self.interrupted.set()
                raise KeyboardInterrupt

        executor = SecondUnderWay()
        message = r"^interrupted: 2 of 5 tracks were prepared and are kept; run the same command again to go on$"
        with pytest.raises(InterruptedRunError, match=message):
            prepare(plan, executor, executor.interrupt)
        assert [future.cancelled() for future in executor.submitted] == [False, False, True, True, True]
        assert [track.header.name for track in open_cache(plan.settings.output).tracks] == ["v0", "v1"]
        assert [task.track.name for task in again().tasks] == ["v2", "v3", "v4"]

    def test_the_first_manifest_stands_before_the_first_track(self, plan: PreparationPlan) -> None:
        class Interrupted(Executor):
            def submit(self, *_: Any, **__: Any) -> Future[Any]:
                assert is_cache(plan.settings.output)
                raise KeyboardInterrupt

        with pytest.raises(InterruptedRunError, match="interrupted: 0 of 5 tracks"):
            prepare(plan, Interrupted())


class TestWorkers:
    @pytest.mark.parametrize("waits", [False, True])
    def test_a_killed_worker_is_a_failed_job_and_keeps_what_is_done(
        self, plan: PreparationPlan, again: Callable[[], PreparationPlan], waits: bool
    ) -> None:
        class Dying(Executor):
            """A pool whose worker ends after two tracks, perhaps before all have been submitted."""

            def __init__(self, pool: Executor) -> None:
                self.pool = pool
                self.submitted = 0

            def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
                self.submitted += 1
                if self.submitted == 3:
                    end = self.pool.submit(os._exit, 1)
                    if waits:
                        assert isinstance(end.exception(), BrokenProcessPool)
                return self.pool.submit(fn, *args, **kwargs)

        with (
            process_pool(1) as pool,
            pytest.raises(JobError, match="a worker process was killed, most often because memory ran out"),
        ):
            prepare(plan, Dying(pool))
        assert [task.track.name for task in again().tasks] == ["v2", "v3", "v4"]

    @pytest.mark.skipif(os.name != "posix", reason="signals")
    def test_workers_write_the_same_bytes_and_are_deaf_to_ctrl_c(self, plan: PreparationPlan, tmp_path: Path) -> None:
        prepare(plan, InTurn())
        alone = {path: path.read_bytes() for path in plan.settings.output.rglob("*.*")}
        plan.settings.output.rename(tmp_path / "first")
        with process_pool(1) as pool:
            prepare(plan, pool)
            # Blocked since the process began; the worker itself could ignore it only later.
            assert signal.SIGINT in pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()).result()
            assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert {path: path.read_bytes() for path in plan.settings.output.rglob("*.*")} == alone
