"""How the processes that torchrun has started find each other, and what they leave for those it starts after them.

Both go through the launch's store of keys. It outlives its processes (torch 2.13 keeps it, as it is, when they are
started again), so what those of now say has to be told from what earlier ones have said.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

from torch.distributed.distributed_c10d import Store

from vrtool.errors import JobError

POLL_SECONDS = 0.05
HELLO, INVITATION = "vrtool/hello", "vrtool/invitation"


def meet(store: Store, rank: int, size: int, *, patience: timedelta) -> str:
    """Return a name that the `size` processes of now have agreed on, under which no earlier one has left a key.

    Each says hello with a word of its own. The first one invites those whose words it finds, which accept if the word
    is theirs, and again if a late one turns up; when all have accepted it gives the go. Raises JobError if that takes
    longer than `patience`.
    """
    own = uuid.uuid4().hex
    store.set(f"{HELLO}/{rank}", own)
    come = _inviting(store, size) if rank == 0 else _accepting(store, rank, size, own)
    deadline = time.monotonic() + patience.total_seconds()
    while (name := come()) is None:
        if time.monotonic() > deadline:
            raise JobError(
                f"process {rank} has waited {patience.total_seconds():.0f} s for {size - 1} others of the run; see "
                "whether they were started, and can reach the first machine over the network"
            )
        time.sleep(POLL_SECONDS)
    return name


def _inviting(store: Store, size: int) -> Callable[[], str | None]:
    """Return what the first process does again and again until it gives the name."""
    others = range(1, size)
    invited: list[str] = []
    name = ""

    def invite() -> str | None:
        nonlocal invited, name
        if not store.check([f"{HELLO}/{rank}" for rank in others]):
            return None
        present = [store.get(f"{HELLO}/{rank}").decode() for rank in others]
        if present != invited:
            invited, name = present, uuid.uuid4().hex
            store.set(INVITATION, json.dumps([name, *invited]))
        if not store.check([f"{name}/accepted/{rank}" for rank in others]):
            return None
        store.set(f"{name}/go", "")
        return name

    return invite


def _accepting(store: Store, rank: int, size: int, own: str) -> Callable[[], str | None]:
    """Return what another process does again and again until it gives the name."""
    accepted = ""

    def accept() -> str | None:
        nonlocal accepted
        if store.check([INVITATION]):
            name, *words = json.loads(store.get(INVITATION))
            if name != accepted and len(words) == size - 1 and words[rank - 1] == own:
                store.set(f"{name}/accepted/{rank}", "")
                accepted = name
        return accepted if accepted and store.check([f"{accepted}/go"]) else None

    return accept


class LaunchNotes:
    """What processes of a launch leave for those that torchrun starts in their place; none where there is no launch."""

    STARTED, VERDICT = "vrtool/started", "vrtool/verdict"

    def __init__(self, store: Store | None = None) -> None:
        self._store = store

    def say_started(self, run: str) -> None:
        """Note that the run in this folder is this launch's own."""
        if self._store is not None:
            self._store.set(self.STARTED, run)

    def has_started(self, run: str) -> bool:
        """Tell whether the run in this folder is this launch's own."""
        return self._found(self.STARTED) == run

    def say_over(self, exit_code: int) -> None:
        """Note that the run has ended for a reason that is told and that starting it again would not mend."""
        if self._store is not None:
            self._store.set(self.VERDICT, str(exit_code))

    @property
    def verdict(self) -> int | None:
        """The exit code of processes whose run is over, None for others."""
        found = self._found(self.VERDICT)
        return None if found is None else int(found)

    def _found(self, key: str) -> str | None:
        if self._store is None or not self._store.check([key]):
            return None
        found: str = self._store.get(key).decode()
        return found
