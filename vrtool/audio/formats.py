"""What audio files are: their suffixes, what a header says, and what a reader of one offers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

Subtype = Literal["8", "16", "24", "32", "32f"]
"""How samples are kept: integers of so many bits, or 32-bit floats."""

# Read by libsndfile; ffmpeg is asked when libsndfile refuses, as it does a wav file with a rare codec inside.
SOUNDFILE_SUFFIXES = frozenset({
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64",
    ".rf64",
})  # fmt: skip

# Read by ffmpeg only: audio in containers of its own and the audio of videos.
FFMPEG_SUFFIXES = frozenset({
    ".m4a", ".m4b", ".aac", ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".mka", ".webm", ".wma", ".wmv", ".asf",
    ".avi", ".flv", ".mp2", ".mpg", ".mpeg", ".ac3", ".eac3", ".dts", ".amr", ".ape", ".wv", ".tta", ".tak",
    ".mpc", ".dsf", ".dff",
})  # fmt: skip

# What a search through folders takes for audio. Lower-case; a file's suffix is compared in lower case too.
AUDIO_SUFFIXES = SOUNDFILE_SUFFIXES | FFMPEG_SUFFIXES


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioInfo:
    """What a file's header says about its audio.

    `num_samples` counts per channel and is None where the format does not tell; `subtype` names the encoding
    as the library that reads it does ("PCM_16", "aac"), and `samples` how samples are kept, None where sound is coded
    otherwise: lossy formats have no bit depth.
    """

    sample_rate: int
    num_channels: int
    num_samples: int | None
    subtype: str
    samples: Subtype | None = None


class Reader(Protocol):
    """An open audio file."""

    info: AudioInfo

    def blocks(self, block_samples: int) -> Iterator[FloatArray]:
        """Yield the audio in order as (channel, sample), at most `block_samples` samples at a time.

        Raises AudioError where the file turns out to be damaged.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class RefusedError(Exception):
    """A library cannot read a file at all; the message is its reason. Never leaves vrtool.audio."""


def regrouped(arrays: Iterable[FloatArray], block_samples: int) -> Iterator[FloatArray]:
    """Join and cut arrays of any lengths into blocks of `block_samples`, the last one with what is left."""
    pending: list[FloatArray] = []
    count = 0
    for array in arrays:
        pending.append(array)
        count += array.shape[1]
        if count >= block_samples:
            joined = np.concatenate(pending, axis=1)
            whole = count - count % block_samples
            for start in range(0, whole, block_samples):
                yield joined[:, start : start + block_samples]
            pending, count = [joined[:, whole:]], count - whole
    if count:
        yield np.concatenate(pending, axis=1)
