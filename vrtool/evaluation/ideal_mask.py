"""The ideal ratio mask: what a mask on one STFT can reach when it knows the true stems."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vrtool.audio.spectrogram import BLOCK_FRAMES, ComplexArray, StftSpec, stft
from vrtool.audio.waveform import FloatArray, Waveform, resample
from vrtool.separation.chunking import MaskPiece
from vrtool.separation.stems import Stems, split_mixture


def ideal_mask_stems(mixture: Waveform, truth: Stems, spec: StftSpec) -> Stems:
    """Return the stems that the ideal ratio mask |I| / (|I| + |V|) makes of `mixture`, each channel by its own mask.

    The waveforms agree in rate, channels and length. They pass through the STFT of `spec` at its rate, and back, just
    as they do when a network separates them.
    """
    instrumental, vocals = (
        stft(resample(waveform, spec.sample_rate).samples, spec) for waveform in (truth.instrumental, truth.vocals)
    )

    def masks(mixture_spectrogram: ComplexArray) -> Iterator[MaskPiece]:
        for start in range(0, mixture_spectrogram.shape[2], BLOCK_FRAMES):
            frames = slice(start, start + BLOCK_FRAMES)
            mask = _amplitude_ratio(instrumental[:, :, frames], vocals[:, :, frames])
            yield MaskPiece(start_frame=start, mask=mask)

    return split_mixture(mixture, spec, masks)


def _amplitude_ratio(instrumental: ComplexArray, vocals: ComplexArray) -> FloatArray:
    share: FloatArray = np.abs(instrumental)
    total = share + np.abs(vocals)
    # Where both are silent any mask is as good; as in a stem, what nobody claims is the instrumental's.
    return np.divide(share, total, out=np.ones_like(share), where=total > 0)
