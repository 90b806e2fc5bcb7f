"""Which files a track was made from, and whether they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import probe_audio
from vrtool.dataset.header import SourceIdentity, TrackHeader
from vrtool.dataset.npz_patch import read_patch_header
from vrtool.dataset.track import Role, Source, Track
from vrtool.dataset.track_file import read_header
from vrtool.errors import CacheError
from vrtool.preparation.audio_material import can_be_aligned
from vrtool.preparation.material import is_patch, stored_roles
from vrtool.preparation.task import TrackTask


def identify_sources(track: Track, stft: StftSpec) -> tuple[SourceIdentity, ...]:
    """Return what a track's source files are now; each file is read once for its hash. Patches are of `stft`."""
    hashes: dict[Path, str] = {}
    return tuple(_identify(source, role, stft, hashes) for role, source in _stored_sources(track))


def finished_header(task: TrackTask) -> TrackHeader | None:
    """Return the header of the file that already holds a task's track as its sources are now, or None."""
    if not task.destination.is_file():
        return None
    try:
        header = read_header(task.destination)
    except CacheError:
        return None
    if (header.stft, header.precision) != (task.stft, task.precision):
        return None
    if (header.alignment is not None) != (task.align_pairs and can_be_aligned(task.track)):
        return None
    known = {(source.role, source.path, source.gain, source.stream): source for source in header.sources}
    current = list(_stored_sources(task.track))
    if len(known) != len(current):
        return None
    for role, source in current:
        before = known.get((role, str(source.path), source.gain, source.stream))
        if before is None or not _is_same(source.path, before):
            return None
    return header


def _stored_sources(track: Track) -> Iterator[tuple[Role, Source]]:
    return ((role, source) for role in stored_roles(track) for source in track.sources[role])


def _is_same(path: Path, before: SourceIdentity) -> bool:
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) == (before.size_bytes, before.modified_ns):
        return True
    # A copied or touched file has another time but is the same; only the content decides.
    return status.st_size == before.size_bytes and _sha256(path) == before.sha256


def _identify(source: Source, role: Role, stft: StftSpec, hashes: dict[Path, str]) -> SourceIdentity:
    status = source.path.stat()
    sample_rate, num_channels = _describe(source.path, stft)
    if source.path not in hashes:
        hashes[source.path] = _sha256(source.path)
    return SourceIdentity(
        role=role,
        path=str(source.path),
        gain=source.gain,
        size_bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
        sha256=hashes[source.path],
        sample_rate=sample_rate,
        num_channels=num_channels,
        stream=source.stream,
    )


def _describe(path: Path, stft: StftSpec) -> tuple[int, int]:
    """Return a file's sample rate and channels."""
    if is_patch(path):
        return stft.sample_rate, read_patch_header(path).num_channels
    info = probe_audio(path)
    return info.sample_rate, info.num_channels


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
