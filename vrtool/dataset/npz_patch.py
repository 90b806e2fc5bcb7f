"""One patch of the ancestor: an npz file with a piece of a song's spectrogram, checked as it is read.

The ancestor (carperbr/vocal-remover-frame-transformer, lib/dataset.py) saves with numpy.savez: `X`, complex64
(channel, bin, frame); in a pair also `Y`, the instrumental of the mixture X; and `c`, the song's peak. Nothing is ever
unpickled, and whatever is wrong with a file is an AudioError that names it.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from vrtool.audio.spectrogram import ComplexArray
from vrtool.errors import AudioError

Signal = Literal["X", "Y"]

CHUNK_BYTES = 1 << 20
"""What is decompressed at a time; about 64 of the ancestor's frames."""

# What zipfile, zlib and numpy raise on files with flipped bits or missing ends.
DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchHeader:
    """What a patch holds, told without reading its samples.

    `peak` is its `c`, None where there is none; `is_marked_vocals` tells whether there is an array `vocals`, by which
    later versions of the ancestor mark vocals.
    """

    num_channels: int
    num_bins: int
    num_frames: int
    is_pair: bool
    is_marked_vocals: bool
    peak: float | None

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The arrays with samples."""
        return ("X", "Y") if self.is_pair else ("X",)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredArray:
    """An array in an open zip file, its header read and its data not yet."""

    file: IO[bytes]
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        """Yield the data in the order of storage, about CHUNK_BYTES at a time.

        The last chunk comes only if the checksum of the whole is right.
        """
        num_left = math.prod(self.shape)
        while num_left:
            num_bytes = min(num_left, max(1, CHUNK_BYTES // self.dtype.itemsize)) * self.dtype.itemsize
            data = self.file.read(num_bytes)
            if len(data) < num_bytes:
                raise ValueError("its data end early")
            num_left -= num_bytes // self.dtype.itemsize
            yield np.frombuffer(data, self.dtype)


def read_patch_header(path: Path) -> PatchHeader:
    """Return what a patch holds, from its headers.

    Raises AudioError if it is damaged, or not of the ancestor's format.
    """
    with _open_patch(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if "X" not in names:
            raise AudioError(
                f"{path}: expected a spectrogram X in it, found {', '.join(sorted(names)) or 'nothing'}; move it away"
            )
        if "y" in names and "Y" not in names:
            # Made for validation by tsurumeso's vocal remover and early versions of the ancestor. Layered with others
            # at their own levels, such signals would be hundreds of times too quiet.
            raise AudioError(
                f"{path}: expected Y beside X, found y: an older patch, divided by the song's peak, which it does not "
                "tell; prepare the audio it was made from"
            )
        with _open_signal(path, archive, "X") as stored:
            shape = stored.shape
        if "Y" in names:
            with _open_signal(path, archive, "Y") as stored:
                if stored.shape != shape:
                    raise AudioError(
                        f"{path}: expected X and Y of one shape, found {shape} and {stored.shape}; make the patch again"
                    )
        num_channels, num_bins, num_frames = shape
        return PatchHeader(
            num_channels=num_channels,
            num_bins=num_bins,
            num_frames=num_frames,
            is_pair="Y" in names,
            is_marked_vocals="vocals" in names,
            peak=_peak(path, archive) if "c" in names else None,
        )


def read_signal(path: Path, signal: Signal) -> ComplexArray:
    """Return one signal of a patch: complex64 (channel, bin, frame), in the order of axes in which it is stored.

    Takes the memory of the result and a chunk. Raises AudioError if the patch is damaged, or has values that are not
    finite.
    """
    num_broken = start = 0
    with _open_patch(path) as archive, _open_signal(path, archive, signal) as stored:
        values = np.empty(math.prod(stored.shape), np.complex64)
        for chunk in stored.chunks():
            part = values[start : start + chunk.size]
            with np.errstate(over="ignore"):  # what complex64 cannot hold becomes infinite and is counted below
                part[:] = chunk
            num_broken += chunk.size - int(np.count_nonzero(np.isfinite(part)))
            start += chunk.size
        shape, is_fortran = stored.shape, stored.is_fortran
    if num_broken:
        raise AudioError(
            f"{path}: expected finite values, found {num_broken} in {signal} that are NaN or infinite; make it again"
        )
    return values.reshape(shape, order="F" if is_fortran else "C")


def has_magnitude_above(path: Path, limit: float) -> bool:
    """Return whether some magnitude in a patch's X exceeds `limit`; reads no further than to the first such chunk."""
    with (
        _open_patch(path) as archive,
        _open_signal(path, archive, "X") as stored,
        np.errstate(over="ignore", invalid="ignore"),
    ):
        return any(bool((np.abs(chunk) > limit).any()) for chunk in stored.chunks())


@contextmanager
def _open_patch(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a patch; damage that shows while it is open is raised as AudioError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise AudioError(
            f"{path}: expected a whole npz file, found one that cannot be read ({reason}); copy or make it again"
        ) from error


@contextmanager
def _open_array(archive: zipfile.ZipFile, name: str) -> Iterator[_StoredArray]:
    """Open an array of a patch after its header; raises one of DAMAGE if the header cannot be right."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        shape, is_fortran, dtype = _read_npy_header(file)
        if dtype.hasobject:
            raise ValueError(f"its {name} holds Python objects, which are never loaded")
        # So that nobody allocates what a damaged header asks for.
        if info.file_size - file.tell() != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"its {name} has {info.file_size - file.tell()} bytes for a shape of {shape}")
        yield _StoredArray(file=file, shape=shape, is_fortran=is_fortran, dtype=dtype)


def _read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the first axis varies fastest, and dtype; raises ValueError if there is no npy header."""
    version = np.lib.format.read_magic(file)
    # Version 3 is for field names outside of Latin-1, which spectrograms do not have.
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"expected version 1.0 or 2.0 of the npy format, found {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        return read(file)
    except (SyntaxError, TypeError, tokenize.TokenError) as error:
        raise ValueError(f"not a header of the npy format: {error}") from error


@contextmanager
def _open_signal(path: Path, archive: zipfile.ZipFile, signal: Signal) -> Iterator[_StoredArray]:
    """Open a signal of a patch after its header; raises AudioError unless it is a spectrogram."""
    with _open_array(archive, signal) as stored:
        if stored.dtype.kind != "c":
            raise AudioError(
                f"{path}: expected complex values in {signal}, found {stored.dtype}; prepare the audio it was made from"
            )
        if len(stored.shape) != 3 or stored.shape[0] not in (1, 2) or min(stored.shape) < 1:
            raise AudioError(
                f"{path}: expected {signal} of shape (1 or 2 channels, bins, frames), found {stored.shape}; "
                "prepare the audio it was made from"
            )
        yield stored


def _peak(path: Path, archive: zipfile.ZipFile) -> float:
    """Return `c`: one number, which the ancestor's versions store as float32 or float64 without dimensions."""
    with _open_array(archive, "c") as stored:
        if stored.dtype.kind not in "fiu" or math.prod(stored.shape) != 1:
            raise AudioError(
                f"{path}: expected one number c, found {stored.dtype} of shape {stored.shape}; make it again"
            )
        (values,) = stored.chunks()
        peak = float(values[0])
    if not 0 <= peak < math.inf:
        raise AudioError(f"{path}: expected a peak c of 0 or more, found {peak}; make it again")
    return peak
