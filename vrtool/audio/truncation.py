"""Find files of which a part is missing; many decoders would return a shorter track and say nothing."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

from vrtool.errors import AudioError

# A file that decodes to less than it promises is called truncated from this much missing audio on. Codecs
# that work in frames and containers that round their times may be off by a frame or two, some 0.05 s.
TOLERATED_SECONDS = 0.1

# A recorder that cannot seek back leaves 0 or the largest number as the length; sox rounds the latter down.
STREAMED_LENGTH = 0x7FFF0000

# A chunk of a caf file begins with its name and its length, -1 if unknown.
CAF_CHUNK = ">4sq"

# Some writers count the header into the length of the data; the samples are all there.
TOLERATED_BYTES = 64

# From one percent on, libmpg123 prints warnings of its own; smaller losses are found on decoding.
TOLERATED_MPEG_SHARE = 0.01

# 27 bytes of header, 255 of segment table, 255 segments of 255 bytes (RFC 3533, section 6).
MAX_OGG_PAGE = 27 + 255 + 255 * 255


def refuse_truncated(path: Path) -> None:
    """Raise AudioError if the file's own structure (wav, aiff, caf, ogg) says that its end is missing."""
    with path.open("rb") as file:
        magic = file.read(12)
        if magic[:4] == b"RIFF" and magic[8:] == b"WAVE":
            _refuse_short_chunk(path, file, 12, "<4sI", b"data")
        elif magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC"):
            _refuse_short_chunk(path, file, 12, ">4sI", b"SSND")
        elif magic[:4] == b"caff":
            _refuse_short_chunk(path, file, 8, CAF_CHUNK, b"data")
        elif magic[:4] == b"OggS":
            _refuse_short_page(path, file)


def refuse_shorter(path: Path, promised: int | None, decoded: int, sample_rate: int) -> None:
    """Raise AudioError if clearly fewer samples were decoded than a header promised, or none at all."""
    if decoded == 0:
        raise AudioError(f"{path}: expected audio, found a track without a single sample")
    if promised is not None and promised - decoded > TOLERATED_SECONDS * sample_rate:
        raise AudioError(
            f"{path}: expected {promised / sample_rate:.2f} s of audio as its header says, found only "
            f"{decoded / sample_rate:.2f} s; the file is damaged or cut short, get a complete copy"
        )


def states_mpeg_length(path: Path) -> bool:
    """Return whether an mp3 file begins with the frame that states its length (Xing's, or LAME's Info).

    Raises AudioError if fewer bytes are left than are stated there.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(10)
        start = 0
        if head[:3] == b"ID3" and len(head) == 10:
            # The size of an ID3 tag is written in four bytes of seven bits (ID3v2.4, section 3.1).
            start = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        file.seek(start)
        # The statement lies within the first frame; what little padding there is may stand before that.
        match = re.search(rb"(?:Xing|Info)\0\0\0(.)(.{8})", file.read(2048), re.DOTALL)
    if match is None:
        return False
    # Bit 0 says that the number of frames follows, bit 1 that the number of bytes does.
    if match[1][0] & 3 == 3:
        _, num_bytes = struct.unpack(">II", match[2])
        if size - start < num_bytes * (1 - TOLERATED_MPEG_SHARE):
            raise _cut_short(path, f"{num_bytes} bytes of MPEG audio as its header says", f"{size - start}")
    return bool(match[1][0] & 1)


def _refuse_short_chunk(path: Path, file: BinaryIO, position: int, header: str, data_name: bytes) -> None:
    """Walk the chunks from `position` up to the one with the samples; compare its length with the file's.

    `header` is the struct format of what each chunk begins with: its name and its length in bytes.
    """
    size = os.fstat(file.fileno()).st_size
    header_bytes = struct.calcsize(header)
    is_padded = header != CAF_CHUNK
    while position + header_bytes <= size:
        file.seek(position)
        name, length = struct.unpack(header, file.read(header_bytes))
        position += header_bytes
        if name == data_name:
            found = size - position
            if length < STREAMED_LENGTH and length - found > TOLERATED_BYTES:
                raise _cut_short(path, f"{length} bytes of samples as its header says", f"{found}")
            return
        # The chunks of RIFF and FORM begin at even positions, those of caf anywhere.
        position += max(length, 0) + (length % 2) * is_padded


def _refuse_short_page(path: Path, file: BinaryIO) -> None:
    """Check that the last page of an ogg file is whole; the samples of a broken one would be left out."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - MAX_OGG_PAGE))
    tail = file.read()
    position = tail.rfind(b"OggS\0")
    if position < 0:
        # Something else stands behind the last page, so that at least this one is whole.
        return
    page = tail[position:]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(segments) < page[26] or len(page) < 27 + len(segments) + sum(segments):
        raise _cut_short(path, "a whole ogg page at the end", "a part of one")


def _cut_short(path: Path, expected: str, found: str) -> AudioError:
    return AudioError(f"{path}: expected {expected}, found {found}; the file is cut short, get a complete copy")
