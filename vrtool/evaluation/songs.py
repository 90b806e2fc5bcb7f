"""Reading what is compared: a pair's mixture and true stems, and another system's stems of it, all of one shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vrtool.audio.waveform import AUDIO_SUFFIXES, Waveform, read_audio, resample
from vrtool.dataset.folders import comparable_name
from vrtool.dataset.sources import TOLERATED_SECONDS, read_sources
from vrtool.dataset.track import Role, Track
from vrtool.errors import AudioError
from vrtool.evaluation.metrics import Stem
from vrtool.separation.stems import Stems, check_mixture, fit_length

# Estimates were made from the very mixture; what is lost or added is a few frames of a codec or an STFT.
MAX_ESTIMATE_DIFFERENCE_SECONDS = 0.1

TRUE_STEMS: tuple[Role, ...] = ("instrumental", "vocals")

STEM_NAMES: dict[Stem, tuple[str, ...]] = {
    "vocals": ("vocals",),
    "instrumental": ("instrumental", "accompaniment", "no_vocals"),
}
"""File names, without suffix, under which systems write each stem: vrtool's first, then Spleeter's and demucs's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Song:
    """A song with its audio: mixture and true stems agree in sample rate, channels and length."""

    name: str
    mixture: Waveform
    truth: Stems


def read_song(track: Track) -> Song:
    """Return the audio of a song at its mixture's sample rate, mono signals broadcast where another has two channels.

    A song without vocals, or vocals alone, is its own mixture and one true stem; the other stem is silent. Raises
    AudioError if a file is broken, the signals differ in length by more than half a second, have more than two channels
    or samples that are not finite.
    """
    if track.kind != "pair":
        return _read_single(track)
    mixture = _checked(read_sources(track.sources["mixture"]), "mixture")
    instrumental, vocals = (
        _checked(read_sources(track.sources[role], sample_rate=mixture.sample_rate), role) for role in TRUE_STEMS
    )
    waveforms = (mixture, instrumental, vocals)
    shortest = min(waveform.num_samples for waveform in waveforms)
    longest = max(waveform.num_samples for waveform in waveforms)
    if longest - shortest > TOLERATED_SECONDS * mixture.sample_rate:
        found = f"{shortest / mixture.sample_rate:.2f} to {longest / mixture.sample_rate:.2f} s"
        raise AudioError(
            f"mixture and stems must agree in length to {TOLERATED_SECONDS} s, found {found}; cut them alike"
        )
    shape = (max(waveform.num_channels for waveform in waveforms), shortest)
    return Song(
        name=track.name,
        mixture=_shaped(mixture, shape),
        truth=Stems(instrumental=_shaped(instrumental, shape), vocals=_shaped(vocals, shape)),
    )


def _read_single(track: Track) -> Song:
    """Return a track of one stem as a song whose other stem is silent."""
    ((role, sources),) = track.sources.items()
    mixture = _checked(read_sources(sources), role)
    # One zero, seen as many times as there are samples.
    silence = Waveform(
        samples=np.broadcast_to(np.zeros((), np.float32), mixture.samples.shape), sample_rate=mixture.sample_rate
    )
    is_vocals = role == "vocals"
    truth = Stems(vocals=mixture if is_vocals else silence, instrumental=silence if is_vocals else mixture)
    return Song(name=track.name, mixture=mixture, truth=truth)


def find_estimate(folder: Path, stem: Stem) -> Path:
    """Return the file in `folder` that holds `stem` (vocals or instrumental), under any name and suffix in use.

    Raises AudioError if there is none, or more than one to choose from.
    """
    names = STEM_NAMES[stem]
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in files if comparable_name(path.stem) in names and path.suffix.lower() in AUDIO_SUFFIXES]
    if not found:
        raise AudioError(f"no estimate of the {stem}; expected {folder / names[0]}.wav or another audio suffix")
    if len(found) > 1:
        raise AudioError(f"{' and '.join(path.name for path in found)} in {folder} may both be the {stem}; keep one")
    return found[0]


def read_estimate(path: Path, reference: Waveform) -> Waveform:
    """Return the stem in `path` in the shape of `reference`: resampled to its rate, of its channels and length.

    A mono estimate stands for both sides of a stereo reference; the sides of a stereo one are averaged for a mono one.
    What is missing at the end, up to 0.1 s, counts as silence and what is too much is cut, so that every system is
    scored on the whole song. Raises AudioError for a larger difference, a broken file or samples that are not finite.
    """
    estimate = resample(_checked(read_audio(path), str(path)), reference.sample_rate)
    difference_seconds = abs(estimate.num_samples - reference.num_samples) / reference.sample_rate
    if difference_seconds > MAX_ESTIMATE_DIFFERENCE_SECONDS:
        raise AudioError(
            f"{path} lasts {estimate.duration_seconds:.2f} s, its song {reference.duration_seconds:.2f} s; estimates "
            f"must agree in length to {MAX_ESTIMATE_DIFFERENCE_SECONDS} s"
        )
    samples = fit_length(estimate.samples, reference.num_samples)
    if reference.num_channels < estimate.num_channels:
        samples = samples.mean(axis=0, keepdims=True)
    return Waveform(samples=np.broadcast_to(samples, reference.samples.shape), sample_rate=reference.sample_rate)


def _shaped(waveform: Waveform, shape: tuple[int, int]) -> Waveform:
    """Return a waveform with the channels and the samples that `shape` says: broadcast, and cut."""
    samples = np.broadcast_to(waveform.samples[:, : shape[1]], shape)
    return Waveform(samples=samples, sample_rate=waveform.sample_rate)


def _checked(waveform: Waveform, origin: str) -> Waveform:
    """Return the waveform; raises AudioError naming `origin` unless it is one that could be separated."""
    try:
        check_mixture(waveform)
    except AudioError as error:
        raise AudioError(f"{origin}: {error}") from error
    return waveform
