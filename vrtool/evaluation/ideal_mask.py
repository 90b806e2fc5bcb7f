"""The ideal ratio mask: what a mask on one STFT can reach when it knows the true stems."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vrtool.audio.signal import ArraySignal
from vrtool.audio.spectrogram import ComplexArray, StftSpec, stft_blocks
from vrtool.audio.waveform import FloatArray, Waveform, resample
from vrtool.separation.chunking import MaskPiece
from vrtool.separation.stems import Stems, split_mixture


def ideal_mask_stems(mixture: Waveform, truth: Stems, spec: StftSpec) -> Stems:
    """Return the stems that the ideal ratio mask |I| / (|I| + |V|) makes of `mixture`, each channel by its own mask.

    The waveforms agree in rate, channels and length. They pass through the STFT of `spec` at its rate, and back, just
    as they do when a network separates them.
    """
    signals = [
        ArraySignal(resample(waveform, spec.sample_rate).samples) for waveform in (truth.instrumental, truth.vocals)
    ]

    def masks(_: ComplexArray) -> Iterator[MaskPiece]:
        # Block by block: the spectrograms of both stems would be the largest arrays of an evaluation.
        start = 0
        for instrumental, vocals in zip(*(stft_blocks(signal, spec) for signal in signals), strict=True):
            yield MaskPiece(start_frame=start, mask=_amplitude_ratio(instrumental, vocals).transpose(0, 2, 1))
            start += instrumental.shape[1]

    return split_mixture(mixture, spec, masks)


def _amplitude_ratio(instrumental: ComplexArray, vocals: ComplexArray) -> FloatArray:
    share: FloatArray = np.abs(instrumental)
    total = share + np.abs(vocals)
    # Where both are silent any mask is as good; as in a stem, what nobody claims is the instrumental's.
    return np.divide(share, total, out=np.ones_like(share), where=total > 0)
