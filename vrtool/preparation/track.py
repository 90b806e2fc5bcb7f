"""Prepares one track: decode, check, resample, transform, write. What a worker process runs; it keeps no state."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vrtool.audio.spectrogram import StftSpec, stft_blocks
from vrtool.audio.waveform import FloatArray, Waveform, probe_audio, resample
from vrtool.dataset.header import SignalStatistics, SourceIdentity, TrackHeader
from vrtool.dataset.library import Role, Source, Track
from vrtool.dataset.sources import read_sources
from vrtool.dataset.track_file import TrackWriter, write_track
from vrtool.errors import AudioError

SILENCE_DB = -60.0
"""RMS in dB of full scale below which a hop counts as silent."""
CLIPPING_LEVEL = 0.9999
"""A sample this near full scale was probably cut off there: 16-bit full scale is 0.99997."""
LARGEST_SAMPLE = 2.0**31
"""The loudest that may be meant as audio (32-bit integers taken for floats); far above it, spectra overflow."""
LARGEST_LENGTH_DIFFERENCE_SECONDS = 0.5
"""Halves of a pair that differ by more are suspected to be different takes; less is an encoder's padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackTask:
    """One track to prepare, and where its file goes."""

    track: Track
    destination: Path
    stft: StftSpec
    minimum_seconds: float


def prepare_track(task: TrackTask) -> TrackHeader:
    """Write a track's cache file and return its header.

    Raises AudioError if a source cannot be decoded or the track cannot be used; OSError if the file cannot be written.
    """
    sources = tuple(identify(source, role) for role in stored_roles(task.track) for source in task.track.sources[role])
    waveforms = _read_signals(task.track, task.minimum_seconds)
    statistics = {role: _measure(waveform, task.stft) for role, waveform in waveforms.items()}
    resampled = _cut_to_shortest({role: resample(wave, task.stft.sample_rate) for role, wave in waveforms.items()})
    first = next(iter(resampled.values()))
    num_frames = task.stft.num_frames(first.num_samples)
    with write_track(
        task.destination,
        roles=tuple(resampled),
        num_frames=num_frames,
        num_channels=first.num_channels,
        num_bins=task.stft.num_bins,
    ) as writer:
        peaks = _write_spectrograms(writer, resampled, task.stft)
        if task.track.kind == "pair":
            statistics["vocals"] = _measure(_vocals_of(resampled), task.stft)
        header = TrackHeader(
            name=task.track.name,
            kind=task.track.kind,
            stft=task.stft,
            num_channels=first.num_channels,
            num_frames=num_frames,
            num_samples=first.num_samples,
            statistics={role: replace(entry, peak=peaks[role]) for role, entry in statistics.items()},
            storage={role: writer.storage(role) for role in resampled},
            sources=sources,
        )
        writer.finish(header)
    return header


def identify(source: Source, role: Role) -> SourceIdentity:
    """Return what a source file is now, its content hash included."""
    status = source.path.stat()
    info = probe_audio(source.path)
    with source.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return SourceIdentity(
        role=role,
        path=str(source.path),
        gain=source.gain,
        size_bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
        sha256=digest,
        sample_rate=info.sample_rate,
        num_channels=info.num_channels,
    )


def stored_roles(track: Track) -> tuple[Role, ...]:
    """Return the signals of a track that its file holds: a pair's vocals are the difference of the two others."""
    return ("mixture", "instrumental") if track.kind == "pair" else tuple(track.sources)


def _read_signals(track: Track, minimum_seconds: float) -> dict[Role, Waveform]:
    """Return the signals that a track's file stores, checked, all with as many channels."""
    waveforms = {role: read_sources(track.sources[role]) for role in stored_roles(track)}
    for role, waveform in waveforms.items():
        _check_usable(track, role, waveform, minimum_seconds)
    if track.kind == "pair":
        _check_lengths(waveforms)
    num_channels = max(waveform.num_channels for waveform in waveforms.values())
    return {role: _with_channels(waveform, num_channels) for role, waveform in waveforms.items()}


def _check_usable(track: Track, role: Role, waveform: Waveform, minimum_seconds: float) -> None:
    which = f"its {role} " if track.kind == "pair" else ""
    if not np.isfinite(waveform.samples).all():
        count = int(np.count_nonzero(~np.isfinite(waveform.samples)))
        raise AudioError(f"{which}has {count} samples that are NaN or infinite; export it again")
    largest = float(np.abs(waveform.samples).max(initial=0.0))
    if largest > LARGEST_SAMPLE:
        raise AudioError(f"{which}has samples of up to {largest:.3g}, expected full scale to be 1; export it again")
    if waveform.num_channels > 2:
        raise AudioError(f"{which}has {waveform.num_channels} channels, expected mono or stereo; mix it down")
    if waveform.duration_seconds < minimum_seconds:
        raise AudioError(
            f"{which}is {waveform.duration_seconds:.2f} s long, expected at least {minimum_seconds:g} s "
            "(--minimum-seconds)"
        )
    if largest < 10.0 ** (SILENCE_DB / 20.0):
        raise AudioError(f"{which}is silent throughout")


def _check_lengths(waveforms: dict[Role, Waveform]) -> None:
    durations = {role: waveform.duration_seconds for role, waveform in waveforms.items()}
    if max(durations.values()) - min(durations.values()) > LARGEST_LENGTH_DIFFERENCE_SECONDS:
        lengths = " and ".join(f"{role} {seconds:.2f} s" for role, seconds in durations.items())
        raise AudioError(
            f"its halves differ in length ({lengths}); expected the same recording with and without vocals"
        )


def _with_channels(waveform: Waveform, num_channels: int) -> Waveform:
    if waveform.num_channels == num_channels:
        return waveform
    return Waveform(samples=np.repeat(waveform.samples, num_channels, axis=0), sample_rate=waveform.sample_rate)


def _cut_to_shortest(waveforms: dict[Role, Waveform]) -> dict[Role, Waveform]:
    shortest = min(waveform.num_samples for waveform in waveforms.values())
    return {
        role: Waveform(samples=waveform.samples[:, :shortest], sample_rate=waveform.sample_rate)
        for role, waveform in waveforms.items()
    }


def _vocals_of(pair: dict[Role, Waveform]) -> Waveform:
    mixture, instrumental = pair["mixture"], pair["instrumental"]
    return Waveform(samples=mixture.samples - instrumental.samples, sample_rate=mixture.sample_rate)


def _write_spectrograms(writer: TrackWriter, waveforms: dict[Role, Waveform], stft: StftSpec) -> dict[Role, float]:
    """Write the signals' frames side by side; return the largest magnitudes, a pair's vocals among them."""
    roles = tuple(waveforms)
    peaks: dict[Role, float] = dict.fromkeys((*roles, "vocals"), 0.0)
    blocks = [stft_blocks(waveform.samples, stft) for waveform in waveforms.values()]
    for together in zip(*blocks, strict=True):
        for role, block in zip(roles, together, strict=True):
            writer.append(role, block)
            peaks[role] = max(peaks[role], float(np.abs(block).max()))
        if len(together) == 2:
            peaks["vocals"] = max(peaks["vocals"], float(np.abs(together[0] - together[1]).max()))
    return peaks


def _measure(waveform: Waveform, stft: StftSpec) -> SignalStatistics:
    """Return a waveform's statistics but for the peak, which its spectrogram tells."""
    hop_samples = max(1, round(stft.hop_length * waveform.sample_rate / stft.sample_rate))
    power = _hop_power(waveform.samples, hop_samples)
    audible = power[power >= 10.0 ** (SILENCE_DB / 10.0)]
    magnitude = np.abs(waveform.samples)
    return SignalStatistics(
        peak=0.0,
        level_db=float(10.0 * np.log10(audible.mean())) if audible.size else SILENCE_DB,
        sample_peak=float(magnitude.max(initial=0.0)),
        silence_share=float(1.0 - audible.size / power.size),
        clipping_share=float(np.mean(magnitude >= CLIPPING_LEVEL)),
    )


def _hop_power(samples: FloatArray, hop_samples: int) -> FloatArray:
    """Return the mean square over channels and samples of every hop, the last and shorter one included."""
    squares = np.square(samples).mean(axis=0)
    starts = np.arange(0, squares.size, hop_samples)
    sizes = np.minimum(hop_samples, squares.size - starts)
    power: FloatArray = (np.add.reduceat(squares, starts) / sizes).astype(np.float32)
    return power
