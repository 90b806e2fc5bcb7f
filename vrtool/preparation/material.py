"""What a track's file is made from: frames of each of its signals, and what was measured on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from vrtool.audio.alignment import Alignment
from vrtool.audio.spectrogram import ComplexArray, StftSpec
from vrtool.dataset.header import SignalStatistics
from vrtool.dataset.track import Role, Track
from vrtool.errors import AudioError


class Material(Protocol):
    """The signals of a track that its file stores, side by side."""

    @property
    def num_channels(self) -> int:
        """Channels of every signal: 1 or 2."""
        ...

    @property
    def num_frames(self) -> int:
        """Frames of every signal."""
        ...

    @property
    def num_samples(self) -> int:
        """Samples of the audio at the STFT's rate."""
        ...

    @property
    def alignment(self) -> Alignment | None:
        """How the second file of a pair was moved to fit the first, None if there was nothing to align."""
        ...

    def blocks(self) -> Iterator[tuple[ComplexArray, ...]]:
        """Yield the frames of all stored roles together, each block complex64 (channel, frame, bin); once."""
        ...

    def statistics(self, peaks: Mapping[Role, float]) -> dict[Role, SignalStatistics]:
        """Return the statistics of the roles that have peaks, after the last block."""
        ...


def stored_roles(track: Track) -> tuple[Role, ...]:
    """Return the signals of a track that its file holds: a pair's vocals are the difference of the two others."""
    return ("mixture", "instrumental") if track.kind == "pair" else tuple(track.sources)


def check_duration(num_samples: int, stft: StftSpec, minimum_seconds: float, which: str = "") -> None:
    """Raise AudioError if there is too little audio; `which` stands before "is ..." in its message."""
    duration_seconds = num_samples / stft.sample_rate
    if duration_seconds < minimum_seconds:
        raise AudioError(
            f"{which}is {duration_seconds:.2f} s long, expected at least {minimum_seconds:g} s (--minimum-seconds)"
        )


def is_patch(path: Path) -> bool:
    """Tell whether a source is a patch rather than an audio file."""
    return path.suffix == ".npz"
