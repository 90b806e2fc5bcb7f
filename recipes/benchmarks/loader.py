"""Training examples per second and core, beside the field's common way of making them.

    python recipes/benchmarks/loader.py [--cache CACHE]

Examples of 1,024 frames with the default augmentation, from instrumentals and vocals. The common way, in the same
process: each song lies cut into uncompressed npz patches of 2,048 complex64 frames; an example loads whole patches with
np.load, cuts its crop out, and does with numpy what vrtool's plan does: gains, polarity, channels, several voices,
magnitudes, the division by the largest, clipping, mixup. (It leaves out the equaliser, and so has less to do.) One
thread each; all data is in the system's disk cache.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

import tempfile
from pathlib import Path

import numpy as np
from measure import measure, verdict
from training_data import builder, cache_from_command_line, default_drawer

from vrtool.audio.waveform import FloatArray
from vrtool.dataset.cache import Cache
from vrtool.dataset.examples import TrainingBatches
from vrtool.dataset.plan import ExamplePlan, Layer

PATCH_FRAMES = 2048
NUM_EXAMPLES = 24
NUM_ROUNDS = 5


def main() -> None:
    """Print examples per second of both, and their ratio."""
    with cache_from_command_line(__doc__ or "") as cache, tempfile.TemporaryDirectory() as folder:
        drawer = default_drawer(cache)
        batches = TrainingBatches(drawer, builder(cache), batch_size=1, epoch_examples=NUM_EXAMPLES)
        memory = np.ones(batches.largest_size, np.float32)  # used again and again, as a loader's worker does
        plans = [drawer.draw(0, index) for index in range(NUM_EXAMPLES)]
        patches = _write_patches(cache, plans, Path(folder))

        seconds = measure(
            {
                "vrtool": lambda: _write_all(batches, memory),
                "common": lambda: [_common_example(plan, patches) for plan in plans],
            },
            NUM_ROUNDS,
        )
    for name, taken in seconds.items():
        print(f"{name:8} {NUM_EXAMPLES / taken:8.1f} examples per second and core")
    print(verdict("vrtool / common", seconds["common"] / seconds["vrtool"], 10.0))


def _write_all(batches: TrainingBatches, memory: FloatArray) -> None:
    for number in range(NUM_EXAMPLES):
        batches.write(number, memory)


Patches = dict[tuple[str, str], Path]


def _write_patches(cache: Cache, plans: list[ExamplePlan], folder: Path) -> Patches:
    """Write for every signal that a plan uses one patch as large as the common way's, its crop inside."""
    tracks = {track.key: track for track in cache.tracks}
    patches: Patches = {}
    for layer in _all_layers(plans):
        if (layer.track, layer.role) in patches:
            continue
        track = tracks[layer.track]
        frames = np.zeros((2, cache.stft.num_bins, PATCH_FRAMES), np.complex64)
        count = min(PATCH_FRAMES, track.header.num_frames)
        frames[:, :, :count] = track.read_complex(layer.role, 0, count)
        path = folder / f"{len(patches)}_p0.npz"
        np.savez(path, X=frames, c=np.float32(layer.peak))
        patches[layer.track, layer.role] = path
    return patches


def _all_layers(plans: list[ExamplePlan]) -> list[Layer]:
    partners = [plan.mixup for plan in plans if plan.mixup is not None]
    return [layer for plan in [*plans, *partners] for layer in plan.layers]


def _common_example(plan: ExamplePlan, patches: Patches) -> tuple[FloatArray, FloatArray]:
    mixture, instrumental = _common_mix(plan, patches)
    if plan.mixup is not None:
        other_mixture, other_instrumental = _common_mix(plan.mixup, patches)
        weight = np.float32(plan.mixup_weight)
        mixture = weight * mixture + (1 - weight) * other_mixture
        instrumental = weight * instrumental + (1 - weight) * other_instrumental
    return mixture, instrumental


def _common_mix(plan: ExamplePlan, patches: Patches) -> tuple[FloatArray, FloatArray]:
    mixture, instrumental, scale = np.complex64(0), np.complex64(0), np.float32(0)
    for layer in plan.layers:
        with np.load(patches[layer.track, layer.role]) as patch:
            spectrogram, peak = patch["X"], patch["c"]
        start = layer.offset_frames % (PATCH_FRAMES - plan.num_frames + 1)
        crop = spectrogram[list(layer.channels), :, start : start + plan.num_frames]
        for gains, is_mixture in ((layer.mixture_gains, True), (layer.instrumental_gains, False)):
            if not any(gains):
                continue
            part = crop if gains == (1.0, 1.0) else crop * np.array(gains, np.float32)[:, None, None]
            if is_mixture:
                mixture = mixture + part
            else:
                instrumental = instrumental + part
            scale = np.maximum(scale, peak * np.abs(gains).max())
    magnitudes = np.abs(mixture), np.abs(instrumental)
    scale = max(scale, *(magnitude.max() for magnitude in magnitudes))
    loud, quiet = (np.clip(magnitude / scale, 0, 1) for magnitude in magnitudes)
    return loud, quiet


if __name__ == "__main__":
    main()
