"""Chunks of a song computed beside each other: in order, by so many threads, and never left behind."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.separation.passes import MOST_WORKERS, PassPool, compute_in
from vrtool.separation.separator import Separator

SPEC = StftSpec(sample_rate=8000, n_fft=128, hop_length=64)
CHUNK_FRAMES = 32


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Lets torch compute in two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Recording(nn.Module):
    """A mask that depends on the chunk, and who computed it in how many threads; `before` may delay or break a pass."""

    def __init__(self, before: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self.before = before
        self.passes: list[tuple[str, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append((threading.current_thread().name, torch.get_num_threads()))
        self.before(len(self.passes))
        return torch.sigmoid(x - x.mean())


def make_separator(network: nn.Module) -> Separator:
    return Separator(network, SPEC, device="cpu", chunk_frames=CHUNK_FRAMES)


def song(num_chunks: float, num_channels: int = 2) -> FloatArray:
    """Return samples for about so many chunks, without their overlap."""
    num_samples = round(num_chunks * CHUNK_FRAMES * SPEC.hop_length)
    return np.random.default_rng(0).uniform(-1, 1, (num_channels, num_samples)).astype(np.float32)


def blocks(samples: FloatArray) -> Iterator[FloatArray]:
    for start in range(0, samples.shape[1], 1000):
        yield samples[:, start : start + 1000]


def pass_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("pass_")]


def delay_at_random(_: int) -> None:
    time.sleep(random.uniform(0, 0.01))


@pytest.mark.parametrize(
    ("num_threads", "num_workers", "threads_each"),
    [(1, 1, 1), (2, 2, 1), (4, 4, 1), (5, 2, 2), (8, 4, 2), (9, 3, 3), (64, 4, 16)],
)
def test_threads_are_shared_out_among_few_passes(num_threads: int, num_workers: int, threads_each: int) -> None:
    pool = PassPool(num_threads)
    assert (pool.num_workers, pool.threads_each) == (num_workers, threads_each)
    assert pool.num_workers <= MOST_WORKERS


@pytest.mark.usefixtures("two_threads")
def test_blocks_are_those_of_one_thread_whatever_takes_how_long() -> None:
    samples = song(9.4)
    beside = make_separator(Recording(delay_at_random))
    first, second = ([stems.vocals.samples for stems in beside.separate_blocks(blocks(samples), 8000)] for _ in "12")
    assert [block.shape for block in first] == [block.shape for block in second]
    torch.set_num_threads(1)
    alone = make_separator(Recording()).separate(Waveform(samples=samples, sample_rate=8000)).vocals.samples
    for at_once in (first, second):
        np.testing.assert_array_equal(np.concatenate(at_once, axis=1), alone)


@pytest.mark.usefixtures("two_threads")
def test_chunks_are_computed_by_workers_of_one_thread_and_no_other_thread_changes() -> None:
    network = Recording(delay_at_random)
    make_separator(network).separate(Waveform(samples=song(6), sample_rate=8000))
    assert {name.rsplit("_", 1)[0] for name, _ in network.passes} == {"pass"}
    assert {num_threads for _, num_threads in network.passes} == {1}
    of_new_thread: list[int] = []
    thread = threading.Thread(target=lambda: of_new_thread.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (torch.get_num_threads(), of_new_thread) == (2, [2])


@pytest.mark.usefixtures("one_thread")
def test_with_one_thread_there_are_no_workers() -> None:
    network = Recording()
    make_separator(network).separate(Waveform(samples=song(4), sample_rate=8000))
    assert {name for name, _ in network.passes} == {threading.current_thread().name}
    assert PassPool(1).num_ahead == 0


@pytest.mark.parametrize(("num_threads", "num_chunks"), [(1, 2), (2, 4), (3, 5)])
def test_the_first_stems_come_after_two_chunks_and_one_for_each_worker(num_threads: int, num_chunks: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        separator = make_separator(Recording(delay_at_random))
    finally:
        torch.set_num_threads(before)
    num_asked = 0

    def frames() -> Iterator[FloatArray]:
        nonlocal num_asked
        for samples in np.split(song(20), 20 * CHUNK_FRAMES, axis=1):
            num_asked += 1
            yield samples

    assert next(separator.separate_blocks(frames(), 8000)).vocals.num_samples > 0
    # Chunks overlap by an eighth.
    assert num_asked == CHUNK_FRAMES + (num_chunks - 1) * CHUNK_FRAMES * 7 / 8


@pytest.mark.usefixtures("two_threads")
def test_songs_at_once_share_the_workers() -> None:
    network = Recording(delay_at_random)
    separator = make_separator(network)
    mixture = Waveform(samples=song(6), sample_rate=8000)
    alone = separator.separate(mixture).vocals.samples
    together: list[FloatArray] = []
    threads = [
        threading.Thread(target=lambda: together.append(separator.separate(mixture).vocals.samples)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vocals in together:
        np.testing.assert_array_equal(vocals, alone)
    assert len(together) == 4
    assert len({name for name, _ in network.passes}) == 2


@pytest.mark.usefixtures("two_threads")
def test_what_a_pass_raises_ends_its_song_and_no_other() -> None:
    def break_third(number: int) -> None:
        if number == 3:
            raise MemoryError("the third pass")

    separator = make_separator(Recording(break_third))
    mixture = Waveform(samples=song(6), sample_rate=8000)
    with pytest.raises(MemoryError, match="the third pass"):
        separator.separate(mixture)
    assert separator.separate(mixture).vocals.num_samples == mixture.num_samples


@pytest.mark.usefixtures("two_threads")
def test_a_song_that_is_given_up_is_not_computed_on_and_its_workers_end_with_the_separator() -> None:
    before = set(pass_threads())
    is_given_up = threading.Event()
    network = Recording(lambda number: None if number < 3 else assert_is_set(is_given_up))
    separator = make_separator(network)
    stems = separator.separate_blocks(blocks(song(50)), 8000)
    assert next(stems).vocals.num_samples > 0
    workers = [thread for thread in pass_threads() if thread not in before]
    assert len(workers) == 2
    del stems
    gc.collect()
    is_given_up.set()
    del separator
    gc.collect()
    for thread in workers:
        thread.join(timeout=30)
        assert not thread.is_alive()
    # Those that had begun by then; `test_passes_that_have_not_begun_are_cancelled` has one that had not.
    assert len(network.passes) <= 4


@pytest.mark.usefixtures("two_threads")
def test_passes_that_have_not_begun_are_cancelled_with_their_song() -> None:
    is_given_up = threading.Event()
    network = Recording(lambda _: assert_is_set(is_given_up))
    separator = make_separator(network)
    masks = separator._song_masks(2)
    magnitude = np.ones((2, CHUNK_FRAMES, SPEC.num_bins), np.float32)
    # Workers are kept busy by two passes of another song.
    busy = [separator._pool.submit(separator._networks[0].masks, magnitude[None]) for _ in range(2)]
    masks.push(magnitude)
    del masks
    gc.collect()
    is_given_up.set()
    for masks_to_come in busy:
        masks_to_come.result(timeout=30)
    separator._pool.submit(lambda x: x, magnitude).result(timeout=30)  # behind what there may still be
    assert len(network.passes) == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda separator: pickle.loads(pickle.dumps(separator))])
def test_a_copy_separates_with_threads_of_its_own(copied: Callable[[Separator], Separator]) -> None:
    separator = make_separator(nn.Sigmoid())
    mixture = Waveform(samples=song(6), sample_rate=8000)
    vocals = separator.separate(mixture).vocals.samples
    again = copied(separator)
    del separator
    np.testing.assert_array_equal(again.separate(mixture).vocals.samples, vocals)


AFTER_THE_MAIN_THREAD = """
import threading, time
import numpy as np, torch
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import Waveform
from vrtool.separation.separator import Separator

torch.set_num_threads(2)
spec = StftSpec(sample_rate=8000, n_fft=128, hop_length=64)
separator = Separator(torch.nn.Sigmoid(), spec, device="cpu", chunk_frames=32)

def separate():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    samples = np.ones((2, 20000), np.float32)
    print(separator.separate(Waveform(samples=samples, sample_rate=8000)).vocals.num_samples)

threading.Thread(target=separate).start()
"""


def test_a_thread_may_separate_after_the_main_one_has_ended() -> None:
    done = subprocess.run([sys.executable, "-c", AFTER_THE_MAIN_THREAD], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("20000", 0), done.stderr


def assert_is_set(event: threading.Event) -> None:
    assert event.wait(timeout=30)


@pytest.mark.usefixtures("two_threads")
def test_what_the_progress_callback_raises_reaches_the_caller() -> None:
    def stop(done_seconds: float, _total_seconds: float | None) -> None:
        if done_seconds > 0:
            raise TimeoutError

    separator = make_separator(Recording(delay_at_random))
    with pytest.raises(TimeoutError):
        separator.separate(Waveform(samples=song(20), sample_rate=8000), on_progress=stop)


def test_a_number_of_threads_for_one_thread_stays_with_it() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    def look(num_threads: int | None = None) -> None:
        if num_threads is not None:
            compute_in(num_threads)
        seen.append(torch.get_num_threads())

    for num_threads in (3, None):
        thread = threading.Thread(target=look, args=(num_threads,))
        thread.start()
        thread.join()
    assert (seen, torch.get_num_threads()) == ([3, before], before)
