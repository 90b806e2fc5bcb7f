"""What a file says of its song in words: title, artist and so on, read from any format and written where there is room.

Tags are a dict whose keys are ffmpeg's words in lower case: title, artist, album, date, track, genre and more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import av

# Where other formats use another word than ffmpeg's own.
SYNONYMS = {"tracknumber": "track", "albumartist": "album_artist", "discnumber": "disc", "year": "date"}

# libsndfile's words for ours, in the formats that it writes tags in. It knows no others.
SNDFILE_NAMES = {
    "title": "title",
    "artist": "artist",
    "album": "album",
    "date": "date",
    "track": "tracknumber",
    "genre": "genre",
    "comment": "comment",
    "copyright": "copyright",
    "license": "license",
}

# Text frames of ID3v2.4 (section 4.2 of its "Native Frames").
ID3_FRAMES = {
    "title": "TIT2",
    "artist": "TPE1",
    "album": "TALB",
    "album_artist": "TPE2",
    "composer": "TCOM",
    "copyright": "TCOP",
    "date": "TDRC",
    "disc": "TPOS",
    "genre": "TCON",
    "track": "TRCK",
}
ID3_UTF8 = b"\x03"


def read_tags(path: Path) -> dict[str, str]:
    """Return the tags of an audio file; none if it has none or ffmpeg cannot read it."""
    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            # ogg keeps them with the stream, most others with the file.
            found = dict(container.metadata)
            for stream in container.streams.audio[:1]:
                found = dict(stream.metadata) | found
    except (av.FFmpegError, UnicodeError, OSError):
        return {}
    tags = {}
    for key, value in found.items():
        word = key.lower()
        text = value.replace("\0", "").strip()
        if text:
            tags[SYNONYMS.get(word, word)] = text
    return tags


def sndfile_tags(tags: Mapping[str, str], format_name: str) -> dict[str, str]:
    """Return the tags that libsndfile is to write into a format, by its names for them.

    It writes into mp3 files what readers take for Latin-1: those get `id3_tag` in its place.
    """
    if format_name == "MP3":
        return {}
    return {name: tags[word] for word, name in SNDFILE_NAMES.items() if word in tags}


def id3_tag(tags: Mapping[str, str]) -> bytes:
    """Return the tags as the ID3v2.4 tag that an mp3 file begins with; nothing if there is none to write."""
    frames = b"".join(
        _id3_frame(name, ID3_UTF8 + tags[word].encode()) for word, name in ID3_FRAMES.items() if word in tags
    )
    if "comment" in tags:
        # The language is not known ("XXX"), and there is no short description before the text.
        frames += _id3_frame("COMM", ID3_UTF8 + b"XXX\0" + tags["comment"].encode())
    return b"ID3\x04\0\0" + _syncsafe(len(frames)) + frames if frames else b""


def _id3_frame(name: str, content: bytes) -> bytes:
    return name.encode() + _syncsafe(len(content)) + b"\0\0" + content


def _syncsafe(number: int) -> bytes:
    """Return a number in four bytes of seven bits each, which cannot be taken for the beginning of MPEG audio."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
