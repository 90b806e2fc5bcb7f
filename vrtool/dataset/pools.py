"""The tracks that examples are drawn from, and how often each is."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from vrtool.dataset.cache import CachedTrack
from vrtool.dataset.track import KINDS
from vrtool.errors import RecipeError

FAINT_VOCALS_DB = -40.0
"""A pair whose mixture and instrumental differ by less than this, relative to the mixture, has no vocals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Tracks of one kind that can be drawn; `cumulative_weights` has the sum of weights up to each of them."""

    tracks: tuple[CachedTrack, ...]
    cumulative_weights: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.tracks)

    def choose(self, rng: np.random.Generator) -> CachedTrack:
        """Return a random track, each as often as its weight says."""
        drawn = rng.random() * self.cumulative_weights[-1]
        # Rounding may take the product up to the sum of all.
        return self.tracks[min(bisect(self.cumulative_weights, drawn), len(self.tracks) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """The pools; the vocals of `singing_pairs` may be laid over music."""

    instrumentals: Pool
    vocals: Pool
    pairs: Pool
    singing_pairs: Pool

    @property
    def can_make_examples(self) -> bool:
        """Whether there are pairs, or instrumentals and vocals to mix."""
        return bool(self.pairs) or bool(self.instrumentals and self.vocals)

    @property
    def num_starts(self) -> int:
        """The tracks that an example can start from."""
        return len(self.instrumentals) + len(self.pairs)


def make_pools(tracks: Sequence[CachedTrack], library_weights: Mapping[str, float]) -> Pools:
    """Sort tracks into pools, leaving out those of weight 0; tracks of a library that has no weight given weigh 1.

    Raises RecipeError if a weight is for a library that no track is of.
    """
    known = {track.library for track in tracks}
    for name in library_weights:
        if name not in known:
            raise RecipeError(
                f"[augmentation] library_weights names {name!r}, which no training track is of; "
                f"known are {', '.join(sorted(known))}"
            )
    of_kind = {kind: [track for track in tracks if track.header.kind == kind] for kind in KINDS}
    return Pools(
        instrumentals=_pool(of_kind["instrumental"], library_weights),
        vocals=_pool(of_kind["vocal"], library_weights),
        pairs=_pool(of_kind["pair"], library_weights),
        singing_pairs=_pool([track for track in of_kind["pair"] if sings(track)], library_weights),
    )


def _pool(tracks: Sequence[CachedTrack], library_weights: Mapping[str, float]) -> Pool:
    weighted = [(track, library_weights.get(track.library, 1.0)) for track in tracks]
    kept = [(track, weight) for track, weight in weighted if weight > 0.0]
    return Pool(
        tracks=tuple(track for track, _ in kept),
        cumulative_weights=tuple(accumulate(weight for _, weight in kept)),
    )


def sings(pair: CachedTrack) -> bool:
    """Return whether a pair's vocals are more than what a codec left between its halves."""
    statistics = pair.header.statistics
    return statistics["vocals"].level_db - statistics["mixture"].level_db > FAINT_VOCALS_DB
