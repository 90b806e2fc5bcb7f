"""Open any audio file with whichever library can read it, and decode it in blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vrtool.audio.ffmpeg_reader import FfmpegReader
from vrtool.audio.formats import SOUNDFILE_SUFFIXES, AudioInfo, Reader, RefusedError
from vrtool.audio.soundfile_reader import SoundfileReader
from vrtool.audio.truncation import refuse_truncated
from vrtool.errors import AudioError, InputError

# About 1.5 s at 44.1 kHz: large enough that the cost of a call does not count, small beside any track.
BLOCK_SAMPLES = 65536


def probe_audio(path: Path) -> AudioInfo:
    """Return what the header of an audio file says; nothing is decoded.

    Raises InputError if there is no such file and AudioError if it is not one that can be read.
    """
    with open_audio(path) as reader:
        return reader.info


@contextlib.contextmanager
def open_audio(path: Path, stream: int = 0) -> Iterator[Reader]:
    """Open an audio file for its header and its blocks, which are decoded as they are asked for, in constant memory.

    `stream` counts the audio streams of a container that holds several. Integer samples are scaled to ±1, floating ones
    are passed as they are, beyond ±1 and non-finite ones included. Errors as of `probe_audio`, and AudioError from the
    blocks where a file is damaged or ends before its time.
    """
    _refuse_unopenable(path)
    refuse_truncated(path)
    reader = _open_reader(path, stream)
    try:
        yield reader
    finally:
        reader.close()


def _open_reader(path: Path, stream: int) -> Reader:
    if stream > 0 or path.suffix.lower() not in SOUNDFILE_SUFFIXES:
        try:
            return FfmpegReader(path, stream)
        except RefusedError as error:
            raise AudioError(
                f"{path}: expected audio, found what ffmpeg cannot read ({error}); is the file complete, and audio "
                "at all?"
            ) from error
    try:
        return SoundfileReader(path)
    except RefusedError as error:
        reason = error
    try:
        return FfmpegReader(path)
    except RefusedError as error:
        raise AudioError(
            f"{path}: expected {path.suffix[1:].lower()} audio, found what neither libsndfile ({reason}) nor "
            f"ffmpeg ({error}) can read; is the file complete, and audio at all?"
        ) from error


def _refuse_unopenable(path: Path) -> None:
    """Raise InputError unless `path` is a file that can be opened, and AudioError if nothing is in it."""
    try:
        with path.open("rb") as file:
            if file.read(1):
                return
    except FileNotFoundError as error:
        raise InputError(f"{path}: expected an audio file, found nothing of that name") from error
    except OSError as error:
        raise InputError(f"{path}: expected an audio file that can be opened ({error.strerror})") from error
    raise AudioError(f"{path}: expected audio, found an empty file (0 bytes)")
