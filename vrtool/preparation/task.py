"""What a worker is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.rows import Precision
from vrtool.dataset.track import Track


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackTask:
    """One track to prepare, and where its file goes; `library` is the name of the folder it was found in."""

    track: Track
    library: str
    destination: Path
    stft: StftSpec
    precision: Precision
    minimum_seconds: float
    align_pairs: bool
