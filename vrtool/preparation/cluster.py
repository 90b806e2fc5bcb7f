"""Who prepares the tracks: the workers of a Dask cluster. Only here is Dask known; --scheduler alone imports it.

Importing this module raises InputError if distributed, which the extra `cluster` installs, is missing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from vrtool.dataset.folders import existing_folder
from vrtool.errors import InputError, JobError

try:
    import distributed
    from distributed.client import ClosedClientError
    from distributed.comm import CommClosedError, connect
    from distributed.utils import silence_logging_cmgr
except ImportError as error:
    raise InputError(
        f"--scheduler needs a package that is not installed ({error.name}); run: pip install 'vrtool[cluster]'"
    ) from error

CONNECTION_SECONDS = 10.0
"""How long a scheduler may take to answer; a running one takes a fraction of a second."""
FIRST_WORKER_SECONDS = 60.0
"""How long the first worker may take when the scheduler is there: many starting at once share one slow disk."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@contextmanager
def dask_cluster(address: str, folders: Sequence[Path] = ()) -> Iterator[Executor]:
    """Give an executor over the workers of a running Dask cluster, once they are known to be fit for the work.

    `folders` are those that all machines share. A worker that dies has its tasks done by another one; what has not
    begun when the block is left is dropped. Raises InputError if the scheduler does not answer, or if a worker has
    other software or does not see a folder; JobError if there is no worker, or if the scheduler is lost meanwhile.
    """
    with _connection(address) as client:
        _wait_for_a_worker(client, address)
        _check_software(client, address)
        _check_folders(client, folders)
        try:
            yield _ClusterExecutor(client)
        except BrokenExecutor as error:
            raise JobError(
                f"the Dask scheduler at {address} was lost, or dropped the tasks that it had; the finished tracks are "
                "kept: run the same command again when a scheduler is there"
            ) from error


def num_cluster_threads(address: str) -> int:
    """Return how many tracks a Dask cluster prepares at once; errors as for `dask_cluster`."""
    with _connection(address) as client:
        _wait_for_a_worker(client, address)
        return sum(client.nthreads().values())


class _ClusterExecutor(Executor):
    """Makes Dask tasks of what is submitted, and futures that come true with them.

    In place of distributed's own ClientExecutor, which sends a message for every future that is cancelled, each
    answered to all clients: the scheduler would be busy with them while the next run tries to connect. Here the end of
    the connection drops all tasks at once.
    """

    def __init__(self, client: distributed.Client) -> None:
        self._client = client

    def submit(
        self, fn: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        """Return the future result of `fn` on one of the workers; raises BrokenExecutor if the scheduler is lost."""
        future: Future[Result] = Future()
        try:
            # Not pure: equal tasks of two runs are not the same when a source has changed in between.
            task = self._client.submit(fn, *args, pure=False, **kwargs)
        except (CommClosedError, ClosedClientError) as error:
            raise BrokenExecutor from error
        task.add_done_callback(lambda task: _settle(future, task))
        return future


def _settle(future: Future[Result], task: distributed.Future) -> None:
    """Give a future the outcome of its task, unless it was cancelled before."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(task.result())
    except distributed.KilledWorker:
        future.set_exception(
            JobError(
                "ended every worker that tried it, most often because memory ran out; cut it into parts or give each "
                "worker more memory"
            )
        )
    except distributed.CancelledError as error:
        future.set_exception(BrokenExecutor(str(error)))
    except Exception as error:
        future.set_exception(error)


@contextmanager
def _connection(address: str) -> Iterator[distributed.Client]:
    _check_address(address)
    # What is worth saying of lost connections is said by errors.
    with (
        silence_logging_cmgr("CRITICAL"),
        distributed.Client(address, timeout=CONNECTION_SECONDS, name="vrtool", set_as_default=False) as client,
    ):
        yield client


def _check_address(address: str) -> None:
    """Raise InputError unless a scheduler answers.

    Not left to Client, which waits for ever where something else listens, and which, where its making has failed, may
    be collected while a later one starts and then blocks that one with its lock.
    """
    try:
        with ThreadPoolExecutor(1) as thread:  # this thread may have an event loop of its own, as notebooks do
            thread.submit(asyncio.run, _knock(address)).result()
    except Exception as error:  # a malformed address and a foreign server can set off many
        raise InputError(
            f"no Dask scheduler answers at {address} ({str(error) or type(error).__name__}); expected an address such "
            "as tcp://10.0.0.5:8786, as dask scheduler prints it"
        ) from error


async def _knock(address: str) -> None:
    arguments = distributed.Security().get_connection_args("client")
    # The inner time is for the connection, the outer for the greeting after it, too.
    connection = connect(address, timeout=CONNECTION_SECONDS, **arguments)
    await (await asyncio.wait_for(connection, CONNECTION_SECONDS + 1.0)).close()


def _wait_for_a_worker(client: distributed.Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
    except TimeoutError as error:
        raise JobError(
            f"the Dask scheduler at {address} has no workers after {FIRST_WORKER_SECONDS:g} s; start some "
            f"(dask worker {address} --nworkers auto --nthreads 1) and run the same command again"
        ) from error


def _check_software(client: distributed.Client, address: str) -> None:
    """Raise InputError unless the scheduler and all workers have the Python and the vrtool of this process."""
    versions = client.get_versions(packages=["vrtool"])
    wanted = _software(versions["client"])
    # The scheduler takes tasks apart, too, and needs the classes in them.
    machines = {"the scheduler": versions["scheduler"]}
    machines |= {f"worker {worker}": found for worker, found in versions["workers"].items() if found}
    different = {machine: found for machine, values in machines.items() if (found := _software(values)) != wanted}
    if different:
        found = " and ".join(sorted(set(different.values())))
        raise InputError(
            f"the Dask cluster at {address}: expected {wanted} everywhere, as here, found {found} on "
            f"{_listed(different)}; install the same environment on all machines"
        )


def _software(versions: Mapping[str, Any]) -> str:
    python = ".".join(versions["host"]["python"].split(".")[:2])
    vrtool = versions["packages"].get("vrtool")
    return f"{f'vrtool {vrtool}' if vrtool else 'no vrtool'} for Python {python}"


def _check_folders(client: distributed.Client, folders: Iterable[Path]) -> None:
    """Raise InputError unless all workers see all folders: those of another machine may have other disks."""
    for folder in folders:
        # A cache is not there before its first track.
        path = existing_folder(folder)
        # A function of the standard library: every worker has it and finds it by its name.
        seen: dict[str, bool] = client.run(os.path.isdir, str(path), on_error="ignore")
        blind = [f"worker {worker}" for worker, found in seen.items() if not found]
        if blind:
            raise InputError(
                f"{path} is not a folder on {_listed(blind)} of the Dask cluster; libraries and cache must lie on a "
                "disk that all machines share, under the same path"
            )


def _listed(names: Iterable[str]) -> str:
    first, *more = names
    return f"{first} and {len(more)} more" if more else first
