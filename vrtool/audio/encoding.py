"""Write audio files through libsndfile: wav, flac, ogg (Vorbis) and mp3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import soundfile

from vrtool.atomic import atomic_path
from vrtool.audio.formats import FloatArray
from vrtool.errors import AudioError, InputError

Subtype = Literal["16", "24", "32f"]

# libsndfile's Vorbis encoder keeps what it is given in one call on the stack and crashes on a long song.
WRITE_SAMPLES = 65536

# The sample rates of the MPEG-1, MPEG-2 and MPEG-2.5 layer III standards; LAME would resample from any other.
MP3_SAMPLE_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """How one output format is written, and what it can hold.

    `subtypes` maps our names of sample formats to libsndfile's, the default first; it is empty where there is
    no choice. `compression` is libsndfile's number from 0 (best quality, largest file) to 1 for lossy
    formats.
    """

    name: str
    subtypes: dict[Subtype, str]
    max_channels: int
    sample_rates: tuple[int, ...] | range
    compression: float | None = None


OUTPUT_FORMATS: dict[str, OutputFormat] = {
    "wav": OutputFormat(
        name="WAV",
        subtypes={"32f": "FLOAT", "16": "PCM_16", "24": "PCM_24"},
        max_channels=1024,
        sample_rates=range(1, 1 << 31),
    ),
    "flac": OutputFormat(
        name="FLAC",
        subtypes={"24": "PCM_24", "16": "PCM_16"},
        max_channels=8,
        sample_rates=range(1, 655351),
    ),
    # Vorbis quality 8 of 10, about 256 kbit/s for stereo: stems are summed and processed further. libsndfile
    # crashes above 200 kHz, libvorbis' own limit.
    "ogg": OutputFormat(name="OGG", subtypes={}, max_channels=255, sample_rates=range(1, 200001), compression=0.2),
    # LAME's V0, variable, about 245 kbit/s for stereo.
    "mp3": OutputFormat(name="MP3", subtypes={}, max_channels=2, sample_rates=MP3_SAMPLE_RATES, compression=0.0),
}


def encode(path: Path, samples: FloatArray, sample_rate: int, subtype: Subtype | None = None) -> int:
    """Write `samples` (channel, sample) in the format of the path's suffix; return the number clipped.

    Integer subtypes round to the nearest step, undithered, and clip to full scale; the other formats take
    samples beyond ±1 as they are. The file appears complete or not at all. Raises InputError for an unknown
    suffix or subtype, AudioError for what the format cannot hold, OSError as of the disk (full, read-only).
    """
    output, chosen = _output_format(path, subtype)
    _refuse_unsuitable(path, output, samples, sample_rate)
    if chosen != "32f" and not np.isfinite(samples).all():
        raise AudioError(
            f"{path}: expected finite samples, found NaN or infinity; only wav with subtype 32f holds those"
        )
    num_clipped = 0
    with atomic_path(path) as temporary, _OutputFile(temporary) as file:
        try:
            with _open_soundfile(file, output, chosen, sample_rate, len(samples)) as sound:
                for start in range(0, samples.shape[1], WRITE_SAMPLES):
                    block = samples[:, start : start + WRITE_SAMPLES].T
                    if chosen in ("16", "24"):
                        steps, clipped = quantise(block, int(chosen))
                        num_clipped += clipped
                        sound.write(steps)
                    else:
                        sound.write(block)
        # A short write ends in libsndfile's own error or trips python-soundfile's assertion.
        except (soundfile.LibsndfileError, AssertionError) as error:
            file.raise_disk_error(path)
            raise AudioError(f"{path}: libsndfile could not write {output.name} ({error})") from error
        # The last of a compressed stream is written on closing, where libsndfile reports no failure.
        file.raise_disk_error(path)
    return num_clipped


def quantise(samples: FloatArray, num_bits: int) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int32]], int]:
    """Return samples in ±1 as integers of `num_bits` bits, and how many had to be clipped.

    The integers stand in the upper bits of int32, as libsndfile wants them. Of n bits, full scale is 2^(n-1),
    the same number by which decoding divides, so that decoded integers come back exactly; +1 itself is one
    step too many, like anything above.
    """
    full_scale = float(1 << (num_bits - 1))
    steps = np.rint(samples.astype(np.float64) * full_scale)
    inside = np.clip(steps, -full_scale, full_scale - 1)
    num_clipped = int(np.count_nonzero(inside != steps))
    return inside.astype(np.int32) << (32 - num_bits), num_clipped


class _OutputFile:
    """A file that remembers why a write failed: libsndfile does not tell a full disk from other troubles.

    It has the methods that python-soundfile asks of a file. Unbuffered, so that each failure shows at its
    write.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None
        self.read = self._file.read
        self.seek = self._file.seek
        self.tell = self._file.tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        """Write `data`; return the number of bytes written, fewer than there are if the disk refuses."""
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:
            self._error = self._error or error
        return written

    def raise_disk_error(self, destination: Path) -> None:
        """Raise the first error of the disk, if there was one, as one of `destination`."""
        if self._error is not None:
            self._error.filename = str(destination)
            raise self._error


def _output_format(path: Path, subtype: Subtype | None) -> tuple[OutputFormat, Subtype | None]:
    """Return the format of a path's suffix and the subtype to write; InputError if there is no such."""
    output = OUTPUT_FORMATS.get(path.suffix[1:].lower())
    if output is None:
        raise InputError(f"{path}: expected a name that ends in .{', .'.join(OUTPUT_FORMATS)}, found {path.name}")
    if subtype is None:
        return output, next(iter(output.subtypes), None)
    if subtype not in output.subtypes:
        choice = f"one of {', '.join(output.subtypes)}" if output.subtypes else "no subtype"
        raise InputError(f"{path}: {output.name.lower()} takes {choice}, found {subtype}")
    return output, subtype


def _refuse_unsuitable(path: Path, output: OutputFormat, samples: FloatArray, sample_rate: int) -> None:
    """Raise AudioError if the format cannot hold the channels or the sample rate."""
    name = output.name.lower()
    if len(samples) > output.max_channels:
        raise AudioError(f"{path}: {name} holds at most {output.max_channels} channels, found {len(samples)}; use wav")
    if sample_rate not in output.sample_rates:
        rates = output.sample_rates
        known = f"up to {rates[-1]}" if isinstance(rates, range) else ", ".join(map(str, rates))
        raise AudioError(f"{path}: {name} takes sample rates {known} Hz, found {sample_rate}; use wav")


def _open_soundfile(
    file: _OutputFile, output: OutputFormat, subtype: Subtype | None, sample_rate: int, num_channels: int
) -> soundfile.SoundFile:
    return soundfile.SoundFile(
        file,
        "w",
        samplerate=sample_rate,
        channels=num_channels,
        format=output.name,
        subtype=None if subtype is None else output.subtypes[subtype],
        compression_level=output.compression,
        bitrate_mode="VARIABLE" if output.name == "MP3" else None,
    )
