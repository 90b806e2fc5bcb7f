"""Processes that meet in a store where earlier ones have left their words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]  # public all the same
from torch.distributed.distributed_c10d import Store

from vrtool.errors import JobError
from vrtool.training.meeting import HELLO, LaunchNotes, meet


def names_of(store: Store, size: int) -> set[str]:
    """Let `size` processes meet and return the names that they have agreed on."""
    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(meet, store, rank, size, patience=timedelta(seconds=20)) for rank in range(size)]
        return {future.result() for future in futures}


def test_all_agree_on_one_name_and_each_time_on_another() -> None:
    store, seen = HashStore(), set[str]()
    for size in (2, 3, 2, 5, 3):
        names = names_of(store, size)
        assert len(names) == 1
        assert not names & seen
        seen |= names


def test_a_first_process_that_finds_the_word_of_one_that_is_gone_waits_for_the_new_one() -> None:
    store = HashStore()
    store.set(f"{HELLO}/1", "of a process that was killed")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, store, 0, 2, patience=timedelta(seconds=20))
        while not store.check(["vrtool/invitation"]):
            pass
        assert not first.done()
        second = pool.submit(meet, store, 1, 2, patience=timedelta(seconds=20))
        assert first.result() == second.result()


@pytest.mark.parametrize("rank", [0, 1])
def test_who_waits_in_vain_is_told_for_whom(rank: int) -> None:
    with pytest.raises(JobError, match=rf"process {rank} has waited 0 s for 2 others of the run"):
        meet(HashStore(), rank, 3, patience=timedelta(seconds=0.1))


def test_notes_outlive_who_left_them_and_are_of_one_run() -> None:
    store = HashStore()
    assert not LaunchNotes(store).has_started("/run")
    assert LaunchNotes(store).verdict is None
    LaunchNotes(store).say_started("/run")
    LaunchNotes(store).say_over(2)
    assert LaunchNotes(store).has_started("/run")
    assert not LaunchNotes(store).has_started("/another")
    assert LaunchNotes(store).verdict == 2


def test_without_a_launch_nothing_is_noted() -> None:
    notes = LaunchNotes()
    notes.say_started("/run")
    notes.say_over(1)
    assert not notes.has_started("/run")
    assert notes.verdict is None
