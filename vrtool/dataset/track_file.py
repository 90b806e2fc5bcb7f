"""The file of one cached track: written once, atomically, then read through a memory map. Only here is HDF5 known.

It holds, for each of the track's signals, a contiguous dataset named after its role, of rows (see `rows`) in the shape
(frame, channel). Time comes first, so that a crop is one contiguous piece of the file, which the reader maps into
memory at the byte offset the header gives: no HDF5 call, no lock and nothing to pickle in a data loader.
"""

from __future__ import annotations

import io
import json
import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from vrtool.atomic import atomic_path
from vrtool.audio.spectrogram import ComplexArray
from vrtool.dataset.header import SignalStorage, TrackHeader, header_from_json, parse_json
from vrtool.dataset.rows import Precision, RowArray, encode_rows, row_type
from vrtool.dataset.track import Role
from vrtool.errors import CacheError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

HEADER_ATTRIBUTE = "vrtool"
PAGE_BYTES = 4096
MAX_OPEN_MAPS = 128
"""Maps kept open per process: each holds a file descriptor, of which systems allow as few as 256."""


class _PatientFile(io.FileIO):
    """A file whose writes never fail while HDF5 looks on: the first error is kept for `check`.

    HDF5 cannot give up on a full disk: it keeps what it could not write, complains from every destructor and takes the
    process down with it at the end.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, data: ReadableBuffer) -> int:
        """Write all of `data`, or nothing once a write has failed."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self._error is None and rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        return size

    def write_at(self, position: int, data: ReadableBuffer) -> None:
        """Write all of `data` at a position, as `write` does."""
        self.seek(position)
        self.write(data)

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return self.tell() if size is None else size

    def check(self) -> None:
        """Raise the OSError of the first write that failed, if one did."""
        if self._error is not None:
            raise self._error


class TrackWriter:
    """Fills one track's file with frames, in order, then with the header.

    HDF5 lays the datasets out; their bytes go past it, straight to where the reader's map will find them.
    """

    def __init__(
        self,
        file: h5py.File,
        raw: _PatientFile,
        roles: tuple[Role, ...],
        shape: tuple[int, int, int],
        precision: Precision,
    ) -> None:
        """Allocate the datasets of `roles` for `shape`, the (frame, channel, bin) of each spectrogram."""
        self._file = file
        self._raw = raw
        self._precision: Precision = precision
        self._num_frames = shape[0]
        self._next_frame = dict.fromkeys(roles, 0)
        self._checksums = dict.fromkeys(roles, 0)
        self._peaks = dict.fromkeys(roles, 0.0)
        row = row_type(shape[2], precision)
        self._offsets_bytes = {role: _allocate(file, role, shape[:2], row) for role in roles}

    def append(self, role: Role, block: ComplexArray) -> None:
        """Write the next frames of a role; `block` has shape (channel, frame, bin)."""
        rows = encode_rows(block, self._precision)
        start = self._next_frame[role]
        data = rows.view(np.uint8)
        self._raw.write_at(self._offsets_bytes[role] + start * rows[0].nbytes, data.data)
        self._raw.check()
        self._checksums[role] = zlib.crc32(data.data, self._checksums[role])
        self._peaks[role] = max(self._peaks[role], float(rows["peak"].max()))
        self._next_frame[role] = start + len(rows)

    def peak(self, role: Role) -> float:
        """Return the largest magnitude of what was written of a role."""
        return self._peaks[role]

    def storage(self, role: Role) -> SignalStorage:
        """Return where a role's dataset lies and its checksum, once all frames are written."""
        assert self._next_frame[role] == self._num_frames, "frames are missing"
        return SignalStorage(offset_bytes=self._offsets_bytes[role], crc32=self._checksums[role])

    def finish(self, header: TrackHeader) -> None:
        """Write the header, after which the file is complete."""
        # Of fixed length, it lies where HDF5 has checksums: damage to other texts can make it read for ever.
        self._file.attrs[HEADER_ATTRIBUTE] = np.bytes_(json.dumps(header.to_json()))


@contextmanager
def write_track(
    path: Path, *, roles: tuple[Role, ...], num_frames: int, num_channels: int, num_bins: int, precision: Precision
) -> Iterator[TrackWriter]:
    """Give a writer for a new track file, which appears under `path` only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial, _PatientFile(partial) as raw:
        # The data starts on a page, so that a map of it needs no shifting; locks fail on network file systems.
        with h5py.File(
            raw, "w", libver="v110", locking=False, alignment_threshold=1, alignment_interval=PAGE_BYTES
        ) as file:
            yield TrackWriter(file, raw, roles, (num_frames, num_channels, num_bins), precision)
        raw.check()


def _allocate(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Make a contiguous dataset and return the offset of its first byte in the file."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    offset: int = file.create_dataset(name, shape=shape, dtype=dtype, dcpl=creation).id.get_offset()
    return offset


def read_header(path: Path) -> TrackHeader:
    """Return a track file's header; raises CacheError if the file is not a whole track of this format."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            text = file.attrs[HEADER_ATTRIBUTE]
    except (OSError, KeyError, ValueError, RuntimeError) as error:  # h5py has many ways to dislike a file
        raise CacheError(
            f"{path}: expected a track of a vrtool cache, found a damaged or foreign file; "
            "delete it and run vrtool prepare again"
        ) from error
    return header_from_json(parse_json(text, origin=str(path)), origin=str(path))


@lru_cache(maxsize=MAX_OPEN_MAPS)
def _map(path: str, checksum: int) -> npt.NDArray[np.uint8]:  # noqa: ARG001  # a replaced file wants a new map
    return _open_map(path)


def _open_map(path: str) -> npt.NDArray[np.uint8]:
    with Path(path).open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def read_crop(path: Path, header: TrackHeader, role: Role, start_frame: int, num_frames: int) -> RowArray:
    """Return the rows (frame, channel) of a crop: a read-only view of the mapped file, no copy.

    Raises CacheError if the file is gone or was cut short since the cache was opened.
    """
    try:
        return _crop(_map(str(path), header.checksum), header, role, start_frame, num_frames)
    except (OSError, ValueError) as error:
        raise CacheError(
            f"{path}: expected {header.end_bytes:,} bytes of a track, found a file that cannot be read ({error}); "
            "vrtool inspect-dataset --verify names all such files"
        ) from error


def find_damage(path: Path, expected: TrackHeader) -> str | None:
    """Return what is wrong with a track's file, or None if its bytes are those that were written."""
    if not path.is_file():
        return "it is missing"
    try:
        header = read_header(path)
        if header != expected:
            return "its header differs from the manifest's"
        raw = _open_map(str(path))
        for role, stored in header.storage.items():
            rows = _crop(raw, header, role, 0, header.num_frames)
            if zlib.crc32(rows.view(np.uint8).data) != stored.crc32:
                return f"the bytes of its {role} have changed since they were written"
    except CacheError:
        return "it is no track of a vrtool cache, or not a whole one"
    except (OSError, ValueError) as error:
        return f"it cannot be read to its end ({error})"
    return None


def _crop(raw: npt.NDArray[np.uint8], header: TrackHeader, role: Role, start_frame: int, num_frames: int) -> RowArray:
    frame_bytes = header.num_channels * header.row_type.itemsize
    start = header.storage[role].offset_bytes + start_frame * frame_bytes
    rows = raw[start : start + num_frames * frame_bytes].view(header.row_type)
    return rows.reshape(num_frames, header.num_channels)
