"""What is known of a cached track without reading its spectrogram: the header, as values and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from vrtool.audio.alignment import Alignment
from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.rows import Precision, row_type
from vrtool.dataset.track import Kind, Role
from vrtool.errors import CacheError, InputError

FORMAT_VERSION = 2
"""Counts changes of the files' layout or meaning; a reader refuses versions it does not know."""

SETTING_OPTIONS = {"sample_rate": "--sample-rate", "n_fft": "--n-fft", "hop_length": "--hop-length"}
"""The option of `vrtool prepare` behind each STFT setting, for messages that say what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceIdentity:
    """One source file as it was when it was read: enough to tell whether it has changed since."""

    role: Role
    path: str
    gain: float
    size_bytes: int
    modified_ns: int
    sha256: str
    sample_rate: int
    num_channels: int
    stream: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalStatistics:
    """What one signal of a track measures.

    `peak` is the largest linear STFT magnitude; `level_db` the RMS in dB of full scale over what is not silent;
    `sample_peak` the largest sample of its files as they are; the shares are of the track's length.
    """

    peak: float
    level_db: float
    sample_peak: float
    silence_share: float
    clipping_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalStorage:
    """Where one signal's dataset starts in the file, in bytes, and the CRC-32 of its bytes."""

    offset_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackHeader:
    """What a cached track is: its kind, its STFT, its sizes, its signals and the files it came from.

    `library` is the name of the folder that was given to `vrtool prepare`. `storage` has the roles in the file,
    `statistics` those and, for a pair, the vocals (mixture less instrumental). `alignment` says how the second file of
    a pair was moved to fit its mixture.
    """

    name: str
    library: str
    kind: Kind
    stft: StftSpec
    precision: Precision
    num_channels: int
    num_frames: int
    num_samples: int
    statistics: dict[Role, SignalStatistics]
    storage: dict[Role, SignalStorage]
    sources: tuple[SourceIdentity, ...]
    alignment: Alignment | None = None

    @property
    def row_type(self) -> np.dtype[Any]:
        """The type of the rows in the file."""
        return row_type(self.stft.num_bins, self.precision)

    @property
    def duration_seconds(self) -> float:
        """Length of the track's audio."""
        return self.num_samples / self.stft.sample_rate

    @property
    def main_role(self) -> Role:
        """The signal that stands for the whole track: the mixture of a pair, the only one of the others."""
        return "mixture" if "mixture" in self.storage else next(iter(self.storage))

    @property
    def checksum(self) -> int:
        """The CRC-32 of the track's main signal: tells what a file should hold from what it held before."""
        return self.storage[self.main_role].crc32

    @property
    def end_bytes(self) -> int:
        """Where the last of the track's frames ends in its file: the least that the file can have."""
        num_bytes = self.num_frames * self.num_channels * self.row_type.itemsize
        return max(stored.offset_bytes + num_bytes for stored in self.storage.values())

    def to_json(self) -> dict[str, Any]:
        """Return the header as JSON-ready values, the inverse of `header_from_json`."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}


def header_from_json(values: Any, *, origin: str) -> TrackHeader:
    """Return the header that `TrackHeader.to_json` described; `origin` names the file in errors.

    Raises CacheError if the format version is unknown, or if fields are missing or of a type they cannot have.
    """
    check_version(values, origin=origin)
    try:
        header = TrackHeader(
            name=values["name"],
            library=values["library"],
            kind=values["kind"],
            stft=StftSpec(**values["stft"]),
            precision=values["precision"],
            num_channels=values["num_channels"],
            num_frames=values["num_frames"],
            num_samples=values["num_samples"],
            statistics={role: SignalStatistics(**entry) for role, entry in values["statistics"].items()},
            storage={role: SignalStorage(**entry) for role, entry in values["storage"].items()},
            sources=tuple(SourceIdentity(**source) for source in values["sources"]),
            alignment=Alignment(**values["alignment"]) if values["alignment"] else None,
        )
        # To compute with it fails where it holds no numbers, or an unknown precision.
        if min(header.num_frames, header.num_channels, header.num_samples, header.end_bytes) < 1:
            raise ValueError("it has nothing in it")
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise CacheError(
            f"{origin}: its header is not one of vrtool's ({error}); delete the file and run vrtool prepare again"
        ) from error
    return header


def parse_json(text: str, *, origin: str) -> Any:
    """Return the value of a JSON text; raises CacheError naming `origin` if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, TypeError) as error:
        raise CacheError(
            f"{origin}: expected JSON, found something else ({error}); delete it and run vrtool prepare again"
        ) from error


def check_version(values: Any, *, origin: str) -> None:
    """Raise CacheError unless `values` is an object that carries the format version this code reads and writes."""
    found = values.get("format_version") if isinstance(values, dict) else None
    if found != FORMAT_VERSION:
        raise CacheError(
            f"{origin}: expected cache format version {FORMAT_VERSION}, found {found}; "
            "use the vrtool that wrote it, or prepare into a new folder"
        )


def check_same_stft(found: StftSpec, wanted: StftSpec, *, origin: str, wanted_by: str) -> None:
    """Raise CacheError naming the first setting in which a cache differs from what somebody wants."""
    for field in fields(StftSpec):
        has, wants = getattr(found, field.name), getattr(wanted, field.name)
        if has != wants:
            option = SETTING_OPTIONS[field.name]
            raise CacheError(
                f"{origin} was made with {field.name} {has}, {wanted_by} {wants}; "
                f"prepare another cache with {option} {wants}, or ask for {has}"
            )
