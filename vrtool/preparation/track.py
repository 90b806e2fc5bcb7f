"""Prepares one track: what a worker process runs. It keeps no state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vrtool.dataset.header import SourceIdentity, TrackHeader
from vrtool.dataset.rows import largest_difference
from vrtool.dataset.track import Role
from vrtool.dataset.track_file import TrackWriter, write_track
from vrtool.preparation.audio_material import open_audio_material
from vrtool.preparation.identity import finished_header, identify_sources
from vrtool.preparation.material import Material, is_patch, stored_roles
from vrtool.preparation.patch_material import open_patch_material
from vrtool.preparation.task import TrackTask


def prepare_track(task: TrackTask) -> TrackHeader:
    """Write a track's cache file and return its header; a file that another worker has finished is left as it is.

    Raises AudioError if a source cannot be decoded or the track cannot be used; OSError if the file cannot be written.
    """
    finished = finished_header(task)
    if finished is not None:
        return finished
    sources = identify_sources(task.track, task.stft)
    with (
        _open_material(task) as material,
        write_track(
            task.destination,
            roles=stored_roles(task.track),
            num_frames=material.num_frames,
            num_channels=material.num_channels,
            num_bins=task.stft.num_bins,
            precision=task.precision,
        ) as writer,
    ):
        peaks = _write_frames(writer, material, stored_roles(task.track))
        header = _header(task, material, writer, peaks, sources)
        writer.finish(header)
    return header


@contextmanager
def _open_material(task: TrackTask) -> Iterator[Material]:
    if is_patch(next(iter(task.track.sources.values()))[0].path):
        yield open_patch_material(task.track, task.stft, minimum_seconds=task.minimum_seconds)
        return
    with open_audio_material(
        task.track,
        task.stft,
        minimum_seconds=task.minimum_seconds,
        align_pairs=task.align_pairs,
        folder=task.destination.parent,
    ) as material:
        yield material


def _write_frames(writer: TrackWriter, material: Material, roles: tuple[Role, ...]) -> dict[Role, float]:
    """Write the signals' frames side by side; return the largest magnitudes, a pair's vocals among them."""
    largest_vocals = 0.0
    for blocks in material.blocks():
        for role, block in zip(roles, blocks, strict=True):
            writer.append(role, block)
        if len(blocks) == 2:
            largest_vocals = max(largest_vocals, largest_difference(*blocks))
    peaks = {role: writer.peak(role) for role in roles}
    return {**peaks, "vocals": largest_vocals} if len(roles) == 2 else peaks


def _header(
    task: TrackTask,
    material: Material,
    writer: TrackWriter,
    peaks: dict[Role, float],
    sources: tuple[SourceIdentity, ...],
) -> TrackHeader:
    return TrackHeader(
        name=task.track.name,
        library=task.library,
        kind=task.track.kind,
        stft=task.stft,
        precision=task.precision,
        num_channels=material.num_channels,
        num_frames=material.num_frames,
        num_samples=material.num_samples,
        statistics=material.statistics(peaks),
        storage={role: writer.storage(role) for role in stored_roles(task.track)},
        sources=sources,
        alignment=material.alignment,
    )
