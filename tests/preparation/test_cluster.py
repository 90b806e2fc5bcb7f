"""Starts a real scheduler and real workers of Dask, and lets some of them die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import open_cache
from vrtool.errors import InputError, InterruptedRunError, JobError
from vrtool.preparation import Library, PreparationPlan, PreparationSettings, Progress, plan_preparation, prepare
from vrtool.preparation import cluster as cluster_module
from vrtool.preparation.cluster import dask_cluster, num_cluster_threads
from vrtool.preparation.executors import process_pool

PATIENCE_SECONDS = 120.0
NUM_TRACKS = 40
NUM_MIDWAY = 8
"""Finished tracks by which a run counts as being midway."""


class DaskCluster:
    """A scheduler process and the worker processes that were added to it, all on this machine's loopback."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self.scheduler = self._start("scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0", **settings)
        self.workers: list[subprocess.Popen[bytes]] = []
        self._processes = [self.scheduler]
        self.address: str = json.loads(self._await_connection_file())["address"]

    def _start(self, role: str, *options: str, **settings: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", role, "--host", "127.0.0.1", "--no-dashboard", *options]
        connection = ["--scheduler-file", str(self._folder / "scheduler.json")]
        with (self._folder / f"{role}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *connection],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                env={**os.environ, **settings},
            )

    def _await_connection_file(self) -> str:
        path = self._folder / "scheduler.json"
        wait_until(lambda: path.is_file() and path.read_text().endswith("}"))
        return path.read_text()

    def add_workers(self, *nums_threads: int, **settings: str) -> None:
        """Start a worker process for each number of threads and wait until the scheduler knows them."""
        # Without a nanny, which would start another worker for each that is killed.
        options = ("--no-nanny", "--memory-limit", "0", "--local-directory", str(self._folder))
        started = [self._start("worker", "--nthreads", str(num), *options, **settings) for num in nums_threads]
        self._processes += started
        self.workers += started
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=PATIENCE_SECONDS)

    def wait_until_idle(self) -> None:
        with distributed.Client(self.address, set_as_default=False) as client:
            # The scheduler has already forgotten tasks that were dropped while they ran.
            wait_until(lambda: not any(client.run(lambda dask_worker: len(dask_worker.active_threads)).values()))

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


@pytest.fixture
def start_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., DaskCluster]]:
    """`start_cluster(...)` starts a scheduler, without workers, in an environment with the settings given."""
    with contextlib.ExitStack() as stack:

        def start(**settings: str) -> DaskCluster:
            cluster = DaskCluster(tmp_path_factory.mktemp("cluster"), **settings)
            stack.callback(cluster.stop)
            return cluster

        yield start


@pytest.fixture
def cluster(start_cluster: Callable[..., DaskCluster]) -> DaskCluster:
    """Two workers: a process of one thread, and one of two."""
    running = start_cluster()
    running.add_workers(1, 2)
    return running


@pytest.fixture(scope="module")
def library(
    tmp_path_factory: pytest.TempPathFactory, make_signal: Callable[..., FloatArray], write_sound: Callable[..., Path]
) -> Path:
    """Many tracks of some seconds each."""
    first = write_sound(tmp_path_factory.mktemp("library") / "t00.wav", make_signal(0, seconds=5.0))
    for number in range(1, NUM_TRACKS):
        os.link(first, first.with_name(f"t{number:02}.wav"))
    return first.parent


@pytest.fixture(scope="module")
def prepared_alone(library: Path, tiny_stft: StftSpec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a pool of processes makes of the library."""
    output = tmp_path_factory.mktemp("alone") / "cache"
    with process_pool(1) as pool:
        prepare(plan_of(library, output, tiny_stft), pool)
    return contents(output)


def plan_of(library: Path, output: Path, stft: StftSpec) -> PreparationPlan:
    settings = PreparationSettings(output=output, stft=stft, validation="0")
    return plan_preparation([Library(kind="vocal", root=library)], settings)


@pytest.fixture
def plan_again(library: Path, tmp_path: Path, tiny_stft: StftSpec) -> Callable[[], PreparationPlan]:
    """Plans the preparation of the library into one and the same cache, each time that it is called."""
    return lambda: plan_of(library, tmp_path / "cache", tiny_stft)


def stamps(output: Path) -> dict[Path, tuple[int, int]]:
    """Return what tells a finished track's file from another that took its place."""
    finished = [path for path in output.glob("*/*.h5") if not path.name.startswith(".")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in finished}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class HeldBack:
    """Lets no result come back before `release`, so that a worker dies with results that nobody has fetched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._released = threading.Event()
        self._settle = cluster_module._settle
        monkeypatch.setattr(cluster_module, "_settle", self._wait_and_settle)

    def _wait_and_settle(self, *outcome: Any) -> None:
        self._released.wait(PATIENCE_SECONDS)
        self._settle(*outcome)

    def release(self) -> None:
        self._released.set()


@pytest.mark.skipif(sys.platform == "win32", reason="signals that stop and kill")
class TestDeaths:
    @pytest.mark.parametrize("results_are_lost", [False, True])
    def test_of_a_worker_killed_midway_nothing_is_lost_and_nothing_done_twice(
        self,
        cluster: DaskCluster,
        plan_again: Callable[[], PreparationPlan],
        prepared_alone: dict[str, bytes],
        results_are_lost: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        plan = plan_again()
        output = plan.settings.output
        midway: dict[Path, tuple[int, int]] = {}
        held_back = HeldBack(monkeypatch) if results_are_lost else None

        def kill_one_midway() -> None:
            wait_until(lambda: len(stamps(output)) >= NUM_MIDWAY)
            for worker in cluster.workers:  # nothing is to happen between the look at the tracks and the death
                worker.send_signal(signal.SIGSTOP)
            midway.update(stamps(output))
            dying, other = cluster.workers
            dying.kill()
            dying.wait()
            other.send_signal(signal.SIGCONT)
            if held_back is not None:
                held_back.release()

        killer = threading.Thread(target=kill_one_midway)
        killer.start()
        with dask_cluster(cluster.address) as executor:
            report = prepare(plan, executor)
        killer.join()
        assert NUM_MIDWAY <= len(midway) < NUM_TRACKS
        assert (report.num_prepared, report.problems) == (NUM_TRACKS, ())
        assert {path: stamp for path, stamp in stamps(output).items() if path in midway} == midway
        assert open_cache(output) == report.cache
        assert contents(output) == prepared_alone

    def test_a_lost_scheduler_is_a_failed_job_and_keeps_what_is_done(
        self, cluster: DaskCluster, plan_again: Callable[[], PreparationPlan]
    ) -> None:
        message = f"the Dask scheduler at {cluster.address} was lost, .*; the finished tracks are kept: run"

        def lose(_: Progress) -> None:
            cluster.scheduler.kill()

        plan = plan_again()
        with pytest.raises(JobError, match=message), dask_cluster(cluster.address) as executor:
            prepare(plan, executor, lose)
        for worker in cluster.workers:
            worker.wait(PATIENCE_SECONDS)  # without a scheduler they end by themselves
        assert 0 < len(open_cache(plan.settings.output).tracks) < NUM_TRACKS
        assert len(plan_again().finished) == len(stamps(plan.settings.output))

    def test_a_task_that_ends_its_workers_is_named(self, start_cluster: Callable[..., DaskCluster]) -> None:
        cluster = start_cluster(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
        cluster.add_workers(1)
        with dask_cluster(cluster.address) as executor:
            error = executor.submit(os._exit, 1).exception(PATIENCE_SECONDS)
        assert isinstance(error, JobError)
        assert str(error).startswith("ended every worker that tried it, most often because memory ran out")


class TestInterruption:
    def test_tracks_that_have_not_begun_are_dropped_and_the_next_run_does_them(
        self, cluster: DaskCluster, plan_again: Callable[[], PreparationPlan]
    ) -> None:
        def interrupt(_: Progress) -> None:
            raise KeyboardInterrupt

        plan = plan_again()
        message = rf"^interrupted: \d+ of {NUM_TRACKS} tracks were prepared and are kept"
        with pytest.raises(InterruptedRunError, match=message), dask_cluster(cluster.address) as executor:
            prepare(plan, executor, interrupt)
        cluster.wait_until_idle()
        kept = stamps(plan.settings.output)
        assert 0 < len(kept) < NUM_TRACKS
        with dask_cluster(cluster.address) as executor:
            report = prepare(plan_again(), executor)
        assert (report.num_unchanged, report.num_prepared) == (len(kept), NUM_TRACKS - len(kept))
        assert kept.items() <= stamps(plan.settings.output).items()


class TestSize:
    def test_a_cluster_prepares_as_many_tracks_at_once_as_its_workers_have_threads(
        self, start_cluster: Callable[..., DaskCluster]
    ) -> None:
        cluster = start_cluster()
        cluster.add_workers(1, 2)
        assert num_cluster_threads(cluster.address) == 3


class TestRefusals:
    def test_a_missing_package_is_named_with_the_command_that_installs_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        monkeypatch.delitem(sys.modules, "vrtool.preparation.cluster")
        with pytest.raises(InputError, match=r"\(distributed\); run: pip install 'vrtool\[cluster\]'"):
            __import__("vrtool.preparation.cluster")

    @pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost", "http://127.0.0.1:1", "127.0.0.1:port", "a\0b:1"])
    def test_an_address_where_no_scheduler_answers(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cluster_module, "CONNECTION_SECONDS", 0.3)
        with (
            pytest.raises(InputError, match=f"no Dask scheduler answers at {address} .*; expected an address such as"),
            dask_cluster(address),
        ):
            pass

    def test_an_address_where_something_else_listens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cluster_module, "CONNECTION_SECONDS", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(InputError, match=rf"no Dask scheduler answers at {address} \(TimeoutError\); expected"):
                num_cluster_threads(address)

    def test_a_scheduler_without_workers(
        self, start_cluster: Callable[..., DaskCluster], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cluster_module, "FIRST_WORKER_SECONDS", 0.2)
        address = start_cluster().address
        message = rf"the Dask scheduler at {address} has no workers after 0\.2 s; start some \(dask worker {address} "
        with pytest.raises(JobError, match=message):
            num_cluster_threads(address)

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="a folder that no other process sees under its name")
    def test_workers_that_do_not_see_a_folder(self, start_cluster: Callable[..., DaskCluster], tmp_path: Path) -> None:
        cluster = start_cluster()
        cluster.add_workers(1, 1)
        descriptor = os.open(tmp_path, os.O_RDONLY)
        own = f"/proc/self/fd/{descriptor}"
        try:
            with (
                pytest.raises(InputError, match=f"{own} is not a folder on worker tcp://.* and 1 more of the Dask"),
                dask_cluster(cluster.address, [tmp_path / "not/yet", Path(own, "not/yet")]),
            ):
                pass
        finally:
            os.close(descriptor)

    @pytest.mark.parametrize(("metadata", "found"), [
        ("Name: vrtool\nVersion: 0.0.1\n", "vrtool 0.0.1"),
        ("Name: vrtool\n", "no vrtool"),
    ])  # fmt: skip
    def test_workers_with_other_software(
        self, start_cluster: Callable[..., DaskCluster], tmp_path: Path, metadata: str, found: str
    ) -> None:
        # What a worker finds first on its path is the vrtool that it has.
        (tmp_path / "vrtool-0.0.1.dist-info").mkdir()
        (tmp_path / "vrtool-0.0.1.dist-info/METADATA").write_text(metadata)
        cluster = start_cluster()
        cluster.add_workers(1)
        cluster.add_workers(1, PYTHONPATH=str(tmp_path))
        python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
        message = rf"expected vrtool \S+ for {python} everywhere, as here, found {found} for {python} on worker tcp://"
        with pytest.raises(InputError, match=message), dask_cluster(cluster.address):
            pass
