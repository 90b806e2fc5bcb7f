"""What a cache holds, pool by pool: all of it from the manifest, so that a terabyte is summed up in a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.cache import Cache, CachedTrack, Split
from vrtool.dataset.track import KINDS, Kind

Value = TypeVar("Value", int, str)

SPLITS: tuple[Split, ...] = ("training", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSummary:
    """One kind of track in one half of the data set.

    Peaks are linear STFT magnitudes; the shares are of the pool's time; `libraries` counts tracks by library, as
    recipes name it, `source_sample_rates` and `source_channels` by what their source files have (the lowest, if they
    differ).
    """

    kind: Kind
    split: Split
    num_tracks: int
    duration_seconds: float
    num_bytes: int
    median_peak: float
    largest_peak: float
    median_level_db: float
    silence_share: float
    clipping_share: float
    libraries: dict[str, int]
    source_sample_rates: dict[int, int]
    source_channels: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary:
    """A cache as a whole."""

    path: str
    stft: StftSpec
    validation: str
    num_tracks: int
    duration_seconds: float
    num_bytes: int
    pools: tuple[PoolSummary, ...]


def summarise(cache: Cache) -> DatasetSummary:
    """Return the numbers of a cache and of each of its pools that has tracks."""
    pools = tuple(
        _summarise_pool(tracks, kind, split)
        for kind in KINDS
        for split in SPLITS
        if (tracks := cache.pool(kind, split))
    )
    return DatasetSummary(
        path=str(cache.path),
        stft=cache.stft,
        validation=cache.validation,
        num_tracks=len(cache.tracks),
        duration_seconds=sum(pool.duration_seconds for pool in pools),
        num_bytes=sum(pool.num_bytes for pool in pools),
        pools=pools,
    )


def _summarise_pool(tracks: Sequence[CachedTrack], kind: Kind, split: Split) -> PoolSummary:
    headers = [track.header for track in tracks]
    statistics = [header.statistics[header.main_role] for header in headers]
    durations = np.array([header.duration_seconds for header in headers])
    peaks = np.array([entry.peak for entry in statistics])
    return PoolSummary(
        kind=kind,
        split=split,
        num_tracks=len(tracks),
        duration_seconds=float(durations.sum()),
        num_bytes=sum(track.path.stat().st_size for track in tracks if track.path.exists()),
        median_peak=float(np.median(peaks)),
        largest_peak=float(peaks.max()),
        median_level_db=float(np.median([entry.level_db for entry in statistics])),
        silence_share=float(np.average([entry.silence_share for entry in statistics], weights=durations)),
        clipping_share=float(np.average([entry.clipping_share for entry in statistics], weights=durations)),
        libraries=_counted(track.library for track in tracks),
        source_sample_rates=_counted(min(source.sample_rate for source in header.sources) for header in headers),
        source_channels=_counted(min(source.num_channels for source in header.sources) for header in headers),
    )


def _counted(values: Iterable[Value]) -> dict[Value, int]:
    return dict(sorted(Counter(values).items()))
