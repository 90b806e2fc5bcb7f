"""A few seconds of songs kept for validation, always the same ones: what a network makes of them can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vrtool.audio.distortion import nsdr
from vrtool.audio.spectrogram import StftSpec, istft, stft
from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.dataset.cache import Cache
from vrtool.dataset.examples import ExampleBuilder
from vrtool.dataset.plan import ExamplePlan
from vrtool.dataset.track import Kind
from vrtool.drawing.picture import ByteArray, spectrogram_levels
from vrtool.errors import InputError
from vrtool.separation.separator import Separator
from vrtool.separation.stems import Stems
from vrtool.training.validation import validation_set

NUM_EXCERPTS = 4
SECONDS = 10.0
NUM_CANDIDATES = 48
"""Crops that are looked at for ones with a voice."""
AUDIBLE_VOCALS_DB = -15.0
"""How far below the mixture vocals may be that are worth listening for."""
PEAK = 0.97
"""Full scale, less what an encoder may add."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A piece of a song: its mixture and what is instrumental in it; of kind "instrumental", mixed with voices."""

    name: str
    kind: Kind
    mixture: Waveform
    instrumental: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Separated:
    """An excerpt and what a network made of it: nSDR in dB (None for a silent stem) and a picture of each signal.

    Samples are at one gain for all three, which keeps them within full scale.
    """

    excerpt: Excerpt
    vocals_nsdr_db: float | None
    instrumental_nsdr_db: float | None
    stft: StftSpec
    signals: dict[str, Waveform]
    pictures: dict[str, ByteArray]


def choose_excerpts(cache: Cache) -> tuple[Excerpt, ...]:
    """Return excerpts of tracks kept for validation, of pairs first: the same for the same tracks; none if none fit."""
    builder = ExampleBuilder(tracks={track.key: track for track in cache.tracks}, stft=cache.stft)
    num_frames = cache.stft.num_frames(round(SECONDS * cache.stft.sample_rate))
    try:
        plans = validation_set(cache, builder, crop_frames=num_frames, num_examples=NUM_CANDIDATES).plans
    except InputError:  # the cache keeps nothing for validation
        return ()
    of_pairs_first = sorted(plans, key=lambda plan: builder.tracks[plan.start_track].header.kind != "pair")
    chosen: dict[str, Excerpt] = {}
    for plan in of_pairs_first:
        if len(chosen) == NUM_EXCERPTS:
            break
        if plan.start_track not in chosen:
            chosen.update((plan.start_track, excerpt) for excerpt in _with_voice(plan, builder))
    return tuple(chosen.values())


def _with_voice(plan: ExamplePlan, builder: ExampleBuilder) -> Iterator[Excerpt]:
    """Yield the excerpt of a plan if there is both voice and music in it."""
    spec = builder.stft
    mixture, instrumental = builder.build_complex(plan)
    below_db = (nsdr(mixture, instrumental), nsdr(mixture, mixture - instrumental))
    if any(level is None or level > -AUDIBLE_VOCALS_DB for level in below_db):
        return
    num_samples = (plan.num_frames - 1) * spec.hop_length
    header = builder.tracks[plan.start_track].header
    yield Excerpt(
        name=header.name,
        kind=header.kind,
        mixture=Waveform(samples=istft(mixture, spec, num_samples), sample_rate=spec.sample_rate),
        instrumental=istft(instrumental, spec, num_samples),
    )


def separate_excerpt(separator: Separator, excerpt: Excerpt) -> Separated:
    """Return what a network makes of an excerpt."""
    spec, mixture = separator.stft, excerpt.mixture
    stems: Stems = separator.separate(mixture)
    waveforms = {"mixture": mixture, "vocals": stems.vocals, "instrumental": stems.instrumental}
    peak = max(float(np.abs(waveform.samples).max()) for waveform in waveforms.values())
    gain = np.float32(min(1.0, PEAK / max(peak, PEAK)))
    spectrograms = {name: stft(waveform.samples, spec) for name, waveform in waveforms.items()}
    loudest = float(np.abs(spectrograms["mixture"]).max())
    return Separated(
        excerpt=excerpt,
        vocals_nsdr_db=nsdr(mixture.samples - excerpt.instrumental, stems.vocals.samples),
        instrumental_nsdr_db=nsdr(excerpt.instrumental, stems.instrumental.samples),
        stft=spec,
        signals={
            name: Waveform(samples=gain * waveform.samples, sample_rate=waveform.sample_rate)
            for name, waveform in waveforms.items()
        },
        pictures={name: spectrogram_levels(spectrogram, spec, loudest) for name, spectrogram in spectrograms.items()},
    )
