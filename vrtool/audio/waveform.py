"""Waveforms: read from any audio file, resampled, and written.

Reading and writing themselves live in `decoding` and `encoding`; this is where the rest of vrtool comes for
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vrtool.audio.decoding import BLOCK_SAMPLES, open_audio, probe_audio
from vrtool.audio.encoding import encode
from vrtool.audio.formats import AUDIO_SUFFIXES, AudioInfo, FloatArray, Subtype
from vrtool.audio.output_formats import OUTPUT_FORMATS
from vrtool.audio.resampling import resample_blocks

__all__ = [
    "AUDIO_SUFFIXES",
    "OUTPUT_FORMATS",
    "AudioInfo",
    "FloatArray",
    "Subtype",
    "Waveform",
    "probe_audio",
    "read_audio",
    "resample",
    "write_audio",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waveform:
    """Audio in memory: `samples` float32 (channel, sample), full scale ±1; `sample_rate` in Hz.

    Samples may exceed full scale, and it is for the user of a waveform to look for non-finite ones.
    """

    samples: FloatArray
    sample_rate: int

    @property
    def num_channels(self) -> int:
        """The number of channels."""
        return len(self.samples)

    @property
    def num_samples(self) -> int:
        """The number of samples of each channel."""
        return int(self.samples.shape[1])

    @property
    def duration_seconds(self) -> float:
        """The length in seconds."""
        return self.num_samples / self.sample_rate


def read_audio(path: str | Path) -> Waveform:
    """Return a whole audio file, at its own sample rate and with all its channels.

    Raises InputError if there is no such file, AudioError if it is empty, damaged, cut short or not audio.
    """
    with open_audio(Path(path)) as reader:
        samples = np.concatenate(list(reader.blocks(BLOCK_SAMPLES)), axis=1)
        return Waveform(samples=samples, sample_rate=reader.info.sample_rate)


def write_audio(path: str | Path, waveform: Waveform, *, subtype: Subtype | None = None) -> int:
    """Write a waveform in the format of the path's suffix; return how many samples had to be clipped.

    wav takes the subtypes 32f (the default), 32, 24, 16 and 8, flac 24 (the default), 16 and 8, ogg and mp3 none. Only
    integer samples are ever clipped. The file appears complete or not at all. Raises InputError for an
    unknown suffix or subtype, AudioError if the format cannot hold the audio, OSError as of the disk.
    """
    return encode(Path(path), waveform.samples, waveform.sample_rate, subtype)


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """Return a waveform at another sample rate, the same one if it has that rate already.

    Its length is ceil(num_samples * sample_rate / waveform.sample_rate): the last begun sample is kept.
    """
    if sample_rate == waveform.sample_rate:
        return waveform
    blocks = list(resample_blocks([waveform.samples], waveform.sample_rate, sample_rate))
    return Waveform(samples=np.concatenate(blocks, axis=1), sample_rate=sample_rate)
