"""What a run says when its network waits for data."""

from __future__ import annotations

import pytest

from vrtool.training.advice import LoaderAdviser
from vrtool.training.loading import Making

BUSY = Making(seconds=0.1, computing_seconds=0.099)
IDLE = Making(seconds=0.1, computing_seconds=0.02)


@pytest.mark.parametrize(
    ("num_workers", "num_processes", "making", "words"),
    [
        (0, 1, BUSY, "set training.num_loader_workers = 2, so that they are made meanwhile"),
        (1, 1, BUSY, "set training.num_loader_workers = 2, it is 1 now"),
        (6, 1, BUSY, "set training.num_loader_workers = 7, it is 6 now"),
        (2, 2, BUSY, "set training.num_loader_workers = 3, it is 2 now"),
        (7, 1, BUSY, "all 8 cores are busy making examples"),
        (3, 2, BUSY, "all 8 cores are busy making examples"),
        (2, 1, IDLE, "its loader is idle 80% of its time, so the disk is slow"),
        (8, 1, IDLE, "all 8 cores are busy"),
    ],
)
def test_the_remedy_is_what_is_short(num_workers: int, num_processes: int, making: Making, words: str) -> None:
    adviser = LoaderAdviser(num_workers, num_processes=num_processes, num_cores=8)
    for _ in range(10):
        adviser.made(making)
    advice = adviser.advice(0.37)
    assert advice is not None
    assert advice.startswith("the network waits for data 37% of the time: ")
    assert words in advice


def test_little_waiting_is_not_mentioned_and_much_of_it_once() -> None:
    adviser = LoaderAdviser(1, num_cores=8)
    adviser.made(BUSY)
    assert adviser.advice(0.05) is None
    assert adviser.advice(0.5) is not None
    assert adviser.advice(0.9) is None
