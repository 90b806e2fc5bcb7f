"""A few seconds of audio as bytes that any browser plays."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from vrtool.audio.output_formats import MP3_SAMPLE_RATES
from vrtool.audio.waveform import Waveform, resample

COMPRESSION = 0.5
"""libsndfile's number from 0 (best) to 1 (smallest): some 130 kbit/s for stereo at 44,100 Hz."""


def mp3_bytes(waveform: Waveform) -> bytes:
    """Return `waveform` (one or two channels) as an mp3 file, at the next higher rate that mp3 has."""
    rate = next((rate for rate in MP3_SAMPLE_RATES if rate >= waveform.sample_rate), MP3_SAMPLE_RATES[-1])
    samples = np.clip(resample(waveform, rate).samples, -1.0, 1.0)
    memory = io.BytesIO()
    with soundfile.SoundFile(
        memory,
        "w",
        samplerate=rate,
        channels=len(samples),
        format="MP3",
        compression_level=COMPRESSION,
        bitrate_mode="VARIABLE",
    ) as sound:
        sound.write(samples.T)
    return memory.getvalue()
