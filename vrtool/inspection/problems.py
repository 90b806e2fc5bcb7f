"""What about a cache's tracks deserves a look before a month of training: told from the headers alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from vrtool.audio.alignment import Alignment
from vrtool.dataset.cache import Cache, CachedTrack
from vrtool.dataset.header import TrackHeader
from vrtool.dataset.pools import FAINT_VOCALS_DB
from vrtool.dataset.track import Problem

MUCH_CLIPPING = 0.001
"""Share of samples at full scale above which a track was audibly cut off, or mastered that loud."""
MUCH_SILENCE = 0.5
UNSURE_CONFIDENCE = 0.7
"""Share of a pair that agrees on how its halves fit, below which they may be of different speed or edit."""
LOUD_VOCALS_DB = 1.0
"""A pair whose difference is louder than its mixture by more is probably out of step: it should lose energy."""


def find_problems(cache: Cache) -> tuple[Problem, ...]:
    """Return what is suspicious, track by track, in the order of the cache; sources that occur twice last."""
    found = [
        Problem(path=f"{track.header.kind}/{track.header.name}", reason=reason)
        for track in cache.tracks
        for reason in _reasons(track.header)
    ]
    return (*found, *_duplicates(cache))


def _reasons(header: TrackHeader) -> Iterator[str]:
    statistics = header.statistics[header.main_role]
    if statistics.clipping_share > MUCH_CLIPPING:
        yield f"{statistics.clipping_share:.2%} of its samples are at full scale"
    if statistics.silence_share > MUCH_SILENCE:
        yield f"{statistics.silence_share:.0%} of it is silent"
    lowest_rate = min(source.sample_rate for source in header.sources)
    if lowest_rate < header.stft.sample_rate / 2:
        yield f"its source has {lowest_rate} Hz: nothing above {lowest_rate // 2} Hz"
    if header.kind == "pair":
        relative_db = header.statistics["vocals"].level_db - statistics.level_db
        if relative_db < FAINT_VOCALS_DB:
            yield f"its halves hardly differ ({relative_db:.0f} dB): no vocals?"
        if relative_db > LOUD_VOCALS_DB:
            yield f"its halves differ by more than its mixture ({relative_db:+.1f} dB), as if out of step"
    if header.alignment is not None:
        yield from _alignment_reasons(header.alignment)


def _alignment_reasons(alignment: Alignment) -> Iterator[str]:
    changes = []
    if alignment.offset_samples:
        changes.append(f"moved by {alignment.offset_samples:+d} samples")
    if alignment.gain != 1.0:
        changes.append(f"changed by {20.0 * math.log10(abs(alignment.gain)):+.1f} dB")
    if alignment.gain < 0.0:
        changes.append("inverted")
    if changes:
        yield f"its second half was {', '.join(changes)} to fit the mixture"
    if alignment.confidence < UNSURE_CONFIDENCE:
        yield f"its halves fit over no more than {alignment.confidence:.0%} of the song"


def _duplicates(cache: Cache) -> Iterator[Problem]:
    """Yield tracks with a source of the same content, above all where one of them is kept for validation."""
    by_content: defaultdict[str, list[CachedTrack]] = defaultdict(list)
    for track in cache.tracks:
        for content in dict.fromkeys(source.sha256 for source in track.header.sources):
            by_content[content].append(track)
    # Pairs may have two files in common, but are worth one line.
    alike = {(tracks[0].key, other.key): (tracks[0], other) for tracks in by_content.values() for other in tracks[1:]}
    for first, other in alike.values():
        leak = "; one is for training, the other for validation" if other.split != first.split else ""
        yield Problem(
            path=f"{other.header.kind}/{other.header.name}",
            reason=f"has a source file identical to one of {first.header.kind}/{first.header.name}{leak}",
        )
