"""The mixing kernel beside the speed of memory.

    python recipes/benchmarks/kernel.py [--cache CACHE]

Examples of 1,024 frames are drawn with the default augmentation. The kernel alone is timed: it decodes, equalises,
layers, takes magnitudes, scales, clips and blends. The limit is numpy's copy of as many bytes: those that the kernel
reads are copied to where it writes, over and over until both have been gone through. One thread; all data is in the
system's disk cache.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from measure import measure, verdict
from training_data import CROP_FRAMES, builder, cache_from_command_line, default_drawer

from vrtool.audio.waveform import FloatArray
from vrtool.dataset.examples import NUM_CHANNELS, ExampleBuilder
from vrtool.dataset.kernels import mix_into
from vrtool.dataset.plan import ExamplePlan

NUM_EXAMPLES = 64
NUM_ROUNDS = 9


def main() -> None:
    """Print the kernel's time per example, the copy's, and their ratio."""
    with cache_from_command_line(__doc__ or "") as cache:
        drawer, examples = default_drawer(cache), builder(cache)
        result = np.ones((2, NUM_CHANNELS, CROP_FRAMES, cache.stft.num_bins), np.float32)
        kernels: list[Callable[[], object]] = []
        copies: list[Callable[[], object]] = []
        for index in range(NUM_EXAMPLES):
            plan = drawer.draw(0, index)
            for part, blend in ((plan, False), (plan.mixup, True)):
                if part is not None:
                    kernel, copy = _calls(part, examples, result, blend)
                    kernels.append(kernel)
                    copies.append(copy)
        seconds = measure({"kernel": lambda: _all(kernels), "copy": lambda: _all(copies)}, NUM_ROUNDS)
    for name, taken in seconds.items():
        print(f"{name:8} {taken / NUM_EXAMPLES * 1e3:8.2f} ms per example")
    print(verdict("copy / kernel", seconds["copy"] / seconds["kernel"], 0.25))


def _calls(
    plan: ExamplePlan, examples: ExampleBuilder, result: FloatArray, blend: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    crops, signals = examples.gather(plan)
    sources = [rows.reshape(-1).view(np.uint8) for rows in crops]
    target = result.reshape(-1).view(np.uint8)

    def kernel() -> object:
        return mix_into(signals, crops[0].dtype["parts"].base, plan.peak, 0.5, result, blend=blend)

    return kernel, lambda: _copy(sources, target)


def _copy(sources: list[npt.NDArray[np.uint8]], target: npt.NDArray[np.uint8]) -> None:
    """Copy all sources one after the other into the target, from its start again when it is full, and fill it."""
    position = num_copied = 0
    total = max(target.size, sum(source.size for source in sources))
    while num_copied < total:
        for source in sources:
            count = min(source.size, target.size - position, total - num_copied)
            target[position : position + count] = source[:count]
            num_copied += count
            position = (position + count) % target.size


def _all(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()


if __name__ == "__main__":
    main()
