"""Frames from audio files: decode, resample, spool, align, transform; in constant memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vrtool.audio.alignment import MAX_OFFSET_SECONDS, MIN_CONFIDENCE, Alignment, align
from vrtool.audio.formats import FloatArray
from vrtool.audio.signal import Signal
from vrtool.audio.spectrogram import ComplexArray, StftSpec, stft_segments, transform_segment
from vrtool.audio.spool import Spool, open_spool
from vrtool.dataset.header import SignalStatistics
from vrtool.dataset.sources import TOLERATED_SECONDS, open_sources
from vrtool.dataset.track import Role, Source, Track
from vrtool.errors import AudioError
from vrtool.preparation.levels import SILENCE_DB, LevelMeter, SampleMeter
from vrtool.preparation.material import check_duration, is_patch, stored_roles

LARGEST_ALIGNED_DIFFERENCE_SECONDS = 2 * MAX_OFFSET_SECONDS
"""What aligned halves may differ in length: silence or a cut at either end."""
EXACT_GAIN_DB = 0.1
"""A gain this near to none is none: it was measured beside vocals."""

NO_ALIGNMENT = Alignment(offset_samples=0, gain=1.0, confidence=1.0)

Weights = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of a signal, times a gain: itself a `Signal`."""

    signal: Signal
    start: int
    num_samples: int
    gain: float = 1.0

    @property
    def num_channels(self) -> int:
        """The signal's."""
        return self.signal.num_channels

    def read(self, start: int, count: int) -> FloatArray:
        """Return `count` samples from `start` of the stretch on."""
        samples = self.signal.read(self.start + start, count)
        if self.gain != 1.0:
            samples = samples * np.float32(self.gain)
        return samples


@dataclass(slots=True, kw_only=True)
class AudioMaterial:
    """A track's signals, each a weighted sum of its parts: the roles with files of their own. See `Material`."""

    parts: Sequence[Stretch]
    meters: Mapping[Role, SampleMeter]
    roles: tuple[Role, ...]
    stft: StftSpec
    alignment: Alignment | None
    _levels: dict[Role, LevelMeter] = field(default_factory=dict)
    _sums: dict[Role, SampleMeter] = field(default_factory=dict)

    @property
    def num_channels(self) -> int:
        """The most channels that a part has."""
        return max(part.num_channels for part in self.parts)

    @property
    def num_samples(self) -> int:
        """The length that all parts have."""
        return self.parts[0].num_samples

    @property
    def num_frames(self) -> int:
        """Frames of the STFT."""
        return self.stft.num_frames(self.num_samples)

    def blocks(self) -> Iterator[tuple[ComplexArray, ...]]:
        """Yield the frames of all stored roles, and measure the audio under them."""
        weights = _weights(tuple(self.meters), self.roles)
        self._levels = {role: LevelMeter() for role in weights}
        self._sums = {role: SampleMeter() for role in weights if role not in self.meters}
        position = 0
        for segments in zip(*(stft_segments(part, self.stft) for part in self.parts), strict=True):
            signals = {role: self._sum(segments, weights[role]) for role in weights}
            for role, samples in signals.items():
                # The hops that begin with the frames of this block, which no other block has.
                num_hop_samples = samples.shape[1] - self.stft.n_fft + self.stft.hop_length
                first = self.stft.n_fft // 2
                last = first + min(num_hop_samples, self.num_samples - position)
                if last > first:
                    self._levels[role].add(samples[:, first:last], self.stft.hop_length)
                    if role in self._sums:
                        self._sums[role].add(samples[:, first:last])
            position += num_hop_samples
            yield tuple(transform_segment(signals[role], self.stft) for role in self.roles)

    def _sum(self, segments: Sequence[FloatArray], weights: Weights) -> FloatArray:
        weighted = [
            segment if weight == 1.0 else np.float32(weight) * segment
            for segment, weight in zip(segments, weights, strict=True)
            if weight
        ]
        total: FloatArray = weighted[0] if len(weighted) == 1 else weighted[0] + weighted[1]
        return np.broadcast_to(total, (self.num_channels, total.shape[1]))

    def statistics(self, peaks: Mapping[Role, float]) -> dict[Role, SignalStatistics]:
        """Return the statistics: peak and clipping of samples as in the files, where the role has its own."""
        samples = {**self._sums, **self.meters}
        return {role: self._levels[role].statistics(peaks[role], samples[role]) for role in peaks}


@contextmanager
def open_audio_material(
    track: Track, stft: StftSpec, *, minimum_seconds: float, align_pairs: bool, folder: Path
) -> Iterator[AudioMaterial]:
    """Decode a track's files into spools in `folder`, and give what its file is made from.

    Raises AudioError if a source cannot be decoded or the track cannot be used.
    """
    with ExitStack() as stack:
        spools: dict[Role, Spool] = {}
        meters: dict[Role, SampleMeter] = {}
        for role in part_roles(track):
            which = f"its {role} " if track.kind == "pair" else ""
            meters[role] = SampleMeter(which)
            spools[role] = _decode(track.sources[role], meters[role], stft, folder, stack, which)
            check_duration(spools[role].num_samples, stft, minimum_seconds, which)
            _check_audible(meters[role], which)
        is_aligned = align_pairs and can_be_aligned(track)
        _check_lengths(spools, stft, LARGEST_ALIGNED_DIFFERENCE_SECONDS if is_aligned else TOLERATED_SECONDS)
        alignment = _align(spools, stft) if is_aligned else None
        yield AudioMaterial(
            parts=_cut_alike(list(spools.values()), alignment or NO_ALIGNMENT),
            meters=meters,
            roles=stored_roles(track),
            stft=stft,
            alignment=alignment,
        )


def can_be_aligned(track: Track) -> bool:
    """Tell whether a track has a mixture of its own, in which its other part can be found."""
    return track.kind == "pair" and "mixture" in part_roles(track) and not is_patch(track.sources["mixture"][0].path)


def part_roles(track: Track) -> tuple[Role, ...]:
    """Return the roles that have files of their own; of a pair's three signals one is made of the two others."""
    if track.kind != "pair":
        return tuple(track.sources)
    vocals, mixture, instrumental = (track.sources.get(role, ()) for role in ("vocals", "mixture", "instrumental"))
    if vocals and set(mixture) == set(instrumental + vocals):
        return ("instrumental", "vocals")
    if any(source.gain < 0.0 for source in instrumental):
        return ("mixture", "vocals")
    return ("mixture", "instrumental")


def _weights(parts: tuple[Role, ...], roles: tuple[Role, ...]) -> dict[Role, Weights]:
    """Return how much of each part is in each signal that is stored or, for a pair's vocals, measured."""
    if len(parts) == 1:
        return {parts[0]: (1.0,)}
    mixture, instrumental = {
        ("mixture", "instrumental"): ((1.0, 0.0), (0.0, 1.0)),
        ("mixture", "vocals"): ((1.0, 0.0), (1.0, -1.0)),
        ("instrumental", "vocals"): ((1.0, 1.0), (1.0, 0.0)),
    }[parts[0], parts[1]]
    vocals = (mixture[0] - instrumental[0], mixture[1] - instrumental[1])
    return {roles[0]: mixture, roles[1]: instrumental, "vocals": vocals}


def _decode(
    sources: Sequence[Source], meter: SampleMeter, stft: StftSpec, folder: Path, stack: ExitStack, which: str
) -> Spool:
    with open_sources(sources, sample_rate=stft.sample_rate, on_block=lambda _, block: meter.add(block)) as stream:
        if stream.num_channels > 2:
            raise AudioError(f"{which}has {stream.num_channels} channels, expected mono or stereo; mix it down")
        spool = stack.enter_context(open_spool(folder, stream.num_channels))
        for block in stream.blocks:
            spool.append(block)
    return spool


def _check_audible(meter: SampleMeter, which: str) -> None:
    if meter.sample_peak < 10.0 ** (SILENCE_DB / 20.0):
        raise AudioError(f"{which}is silent throughout")


def _check_lengths(spools: Mapping[Role, Spool], stft: StftSpec, tolerance_seconds: float) -> None:
    durations = {role: spool.num_samples / stft.sample_rate for role, spool in spools.items()}
    if max(durations.values()) - min(durations.values()) > tolerance_seconds:
        lengths = " and ".join(f"{role} {seconds:.2f} s" for role, seconds in durations.items())
        raise AudioError(
            f"its halves differ in length ({lengths}); expected the same recording with and without vocals"
        )


def _align(spools: Mapping[Role, Spool], stft: StftSpec) -> Alignment:
    """Return where the second part lies in the mixture; raises AudioError if it does not."""
    (_, mixture), (role, part) = spools.items()
    found = align(mixture, part, stft.sample_rate)
    if found.confidence < MIN_CONFIDENCE:
        raise AudioError(
            f"its {role} is not heard in its mixture (only {found.confidence:.0%} of the song fits); expected the same "
            "recording, at the same speed; pass --no-align if it is"
        )
    is_exact = abs(20.0 * math.log10(abs(found.gain))) < EXACT_GAIN_DB
    return replace(found, gain=math.copysign(1.0, found.gain)) if is_exact else found


def _cut_alike(signals: Sequence[Signal], alignment: Alignment) -> list[Stretch]:
    """Return the parts where they overlap, the second one moved by its alignment."""
    if len(signals) == 1:
        return [Stretch(signal=signals[0], start=0, num_samples=signals[0].num_samples)]
    first, second = signals
    offset = alignment.offset_samples
    start, end = max(0, offset), min(first.num_samples, second.num_samples + offset)
    return [
        Stretch(signal=first, start=start, num_samples=end - start),
        Stretch(signal=second, start=start - offset, num_samples=end - start, gain=alignment.gain),
    ]
