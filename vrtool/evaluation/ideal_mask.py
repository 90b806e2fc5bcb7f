"""The ideal ratio mask: what a mask on one STFT can reach when it knows the true stems."""

from __future__ import annotations

import numpy as np

from vrtool.audio.array_queue import ArrayQueue
from vrtool.audio.signal import ArraySignal
from vrtool.audio.spectrogram import ComplexArray, StftSpec, stft_blocks
from vrtool.audio.waveform import FloatArray, Waveform, resample
from vrtool.separation.song_stream import split_mixture
from vrtool.separation.stems import Stems


def ideal_mask_stems(mixture: Waveform, truth: Stems, spec: StftSpec) -> Stems:
    """Return the stems that the ideal ratio mask |I| / (|I| + |V|) makes of `mixture`, each channel by its own mask.

    The waveforms agree in rate, channels and length. They pass through the STFT of `spec` at its rate, and back, just
    as they do when a network separates them.
    """
    return split_mixture(mixture, spec, _IdealMasks(truth, spec))


class _IdealMasks:
    """The ideal mask of a mixture's frames, whose own magnitudes it need not look at."""

    def __init__(self, truth: Stems, spec: StftSpec) -> None:
        signals = [
            ArraySignal(resample(waveform, spec.sample_rate).samples) for waveform in (truth.instrumental, truth.vocals)
        ]
        # Block by block: the spectrograms of both stems would be the largest arrays of an evaluation.
        self._blocks = zip(*(stft_blocks(signal, spec) for signal in signals), strict=True)
        self._known = ArrayQueue(np.zeros((truth.vocals.num_channels, 0, spec.num_bins), np.float32))

    def push(self, magnitude: FloatArray) -> FloatArray:
        """Return the mask of as many frames as there are magnitudes (channel, frame, bin)."""
        while len(self._known) < magnitude.shape[1]:
            instrumental, vocals = next(self._blocks)
            self._known.append(_amplitude_ratio(instrumental, vocals))
        return self._known.take(magnitude.shape[1])

    def finish(self) -> FloatArray:
        """Return the mask of no frame: none was owed."""
        return self._known.take(0)


def _amplitude_ratio(instrumental: ComplexArray, vocals: ComplexArray) -> FloatArray:
    share: FloatArray = np.abs(instrumental)
    total = share + np.abs(vocals)
    # Where both are silent any mask is as good; as in a stem, what nobody claims is the instrumental's.
    return np.divide(share, total, out=np.ones_like(share), where=total > 0)
