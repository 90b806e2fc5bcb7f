"""From a mask to stems: the one way in which a mixture is split, by a network's mask and by the ideal one alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vrtool.audio.spectrogram import ComplexArray, StftSpec, istft, stft
from vrtool.audio.waveform import FloatArray, Waveform, resample
from vrtool.errors import AudioError
from vrtool.model.masking import estimate_instrumental
from vrtool.separation.chunking import MaskPiece

MAX_CHANNELS = 2

MaskSource = Callable[[ComplexArray], Iterator[MaskPiece]]
"""Gives the mask of a spectrogram (channel, bin, frame), in pieces by rising frame.

A piece's frames are turned into vocals as soon as it is out: the source must be done with reading them.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stems:
    """The two halves of a mixture, at its sample rate, channel count and length; they sum to it sample by sample."""

    instrumental: Waveform
    vocals: Waveform


def split_mixture(mixture: Waveform, spec: StftSpec, masks: MaskSource) -> Stems:
    """Return the stems of `mixture` (any sample rate, one or two channels) that a mask makes.

    `masks` gives the instrumental's share in each bin of the mixture's spectrogram at the rate of `spec`. Raises
    AudioError for more than two channels, for no samples and for samples that are not finite.
    """
    check_mixture(mixture)
    at_model_rate = resample(mixture, spec.sample_rate)
    spectrogram = stft(at_model_rate.samples, spec)
    for piece in masks(spectrogram):
        # Mixture becomes vocals in place: a second spectrogram would double the largest array there is.
        frames = spectrogram[:, :, piece.start_frame : piece.start_frame + piece.mask.shape[2]]
        frames -= estimate_instrumental(piece.mask, frames)
    vocals = Waveform(samples=istft(spectrogram, spec, at_model_rate.num_samples), sample_rate=spec.sample_rate)
    return _stems_of_vocals(mixture, vocals)


def check_mixture(mixture: Waveform) -> None:
    """Raise AudioError unless the waveform has one or two channels, a sample or more, and only finite samples."""
    if not 1 <= mixture.num_channels <= MAX_CHANNELS:
        raise AudioError(f"expected one or two channels, found {mixture.num_channels}; mix it down to stereo first")
    if mixture.num_samples == 0:
        raise AudioError("expected at least one sample, found none")
    num_broken = mixture.samples.size - int(np.isfinite(mixture.samples).sum())
    if num_broken:
        raise AudioError(f"expected finite samples, found {num_broken} that are NaN or infinite; export the file again")


def _stems_of_vocals(mixture: Waveform, vocals: Waveform) -> Stems:
    """Return the stems at the mixture's own rate and length, given the vocals at the model's.

    The network estimates the instrumental, yet it is the vocals that are turned back into audio and the instrumental
    that is what they leave. That way the stems sum to the mixture whatever resampling and inverse STFT round off, and
    what lies above the model's highest frequency, or is lost in resampling, stays in the instrumental.
    """
    samples = fit_length(resample(vocals, mixture.sample_rate).samples, mixture.num_samples)
    return Stems(
        vocals=Waveform(samples=samples, sample_rate=mixture.sample_rate),
        instrumental=Waveform(samples=mixture.samples - samples, sample_rate=mixture.sample_rate),
    )


def fit_length(samples: FloatArray, num_samples: int) -> FloatArray:
    """Return `samples` (channel, sample) cut, or continued with silence, to `num_samples` samples."""
    missing = num_samples - samples.shape[1]
    return np.pad(samples, ((0, 0), (0, missing))) if missing > 0 else samples[:, :num_samples]
