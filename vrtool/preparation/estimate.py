"""What a preparation will take, told before it begins: hours of audio, gigabytes of cache, minutes of work."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vrtool.audio.waveform import probe_audio
from vrtool.dataset.folders import existing_folder
from vrtool.dataset.npz_patch import read_patch_header
from vrtool.dataset.patch_frames import num_patch_frames
from vrtool.dataset.rows import row_type
from vrtool.errors import VrtoolError
from vrtool.preparation.material import is_patch, stored_roles
from vrtool.preparation.plan import PreparationPlan
from vrtool.preparation.task import TrackTask
from vrtool.preparation.track import prepare_track


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What preparing a plan's tasks will take; tracks whose length no header tells are only counted."""

    num_tracks: int
    duration_seconds: float
    cache_bytes: int
    free_bytes: int
    preparation_seconds: float
    unknown_lengths: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    task: TrackTask
    duration_seconds: float
    cache_bytes: int


def estimate(plan: PreparationPlan, num_jobs: int) -> Estimate:
    """Return what is left to do, from the files' headers, and its time at the speed of one track done on trial."""
    sizes = [size for task in plan.tasks if (size := _size(task)) is not None]
    duration = sum(size.duration_seconds for size in sizes)
    return Estimate(
        num_tracks=len(plan.tasks),
        duration_seconds=duration,
        cache_bytes=sum(size.cache_bytes for size in sizes),
        free_bytes=shutil.disk_usage(existing_folder(plan.settings.output)).free,
        preparation_seconds=duration * _seconds_per_second(sizes) / num_jobs,
        unknown_lengths=len(plan.tasks) - len(sizes),
    )


def _size(task: TrackTask) -> _Size | None:
    try:
        measured = _measure(task)
    except VrtoolError:
        return None
    if measured is None:
        return None
    num_frames, num_channels = measured
    num_rows = num_frames * num_channels * len(stored_roles(task.track))
    return _Size(
        task=task,
        duration_seconds=num_frames * task.stft.hop_seconds,
        cache_bytes=num_rows * row_type(task.stft.num_bins, task.precision).itemsize,
    )


def _measure(task: TrackTask) -> tuple[int, int] | None:
    """Return a track's frames and channels from its files' headers, None if one of them does not say."""
    roles = stored_roles(task.track)
    paths = [source.path for role in roles for source in task.track.sources[role]]
    if is_patch(paths[0]):
        first = task.track.sources[roles[0]]
        return num_patch_frames([source.path for source in first]), read_patch_header(paths[0]).num_channels
    infos = [probe_audio(path) for path in paths]
    lengths = [info.num_samples / info.sample_rate for info in infos if info.num_samples is not None]
    if len(lengths) < len(infos):
        return None
    num_frames = task.stft.num_frames(round(min(lengths) * task.stft.sample_rate))
    return num_frames, min(2, max(info.num_channels for info in infos))


def _seconds_per_second(sizes: Sequence[_Size]) -> float:
    """Return the seconds of work per second of audio: those of the track of middle length, prepared and thrown away."""
    for size in sorted(sizes, key=lambda size: size.duration_seconds)[len(sizes) // 2 :]:
        with tempfile.TemporaryDirectory(prefix="vrtool-") as folder:
            trial = replace(size.task, destination=Path(folder) / "trial.h5")
            started = time.perf_counter()
            try:
                prepare_track(trial)
            except VrtoolError:
                continue  # unusable tracks are named when they are prepared
            return (time.perf_counter() - started) / size.duration_seconds
    return 0.0
