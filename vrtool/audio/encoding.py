"""Write audio files through libsndfile, whole or block by block: wav, flac, ogg (Vorbis) and mp3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from vrtool.atomic import atomic_path
from vrtool.audio.formats import FloatArray, Subtype
from vrtool.audio.output_file import OutputFile
from vrtool.audio.output_formats import OUTPUT_FORMATS, OutputFormat, choose_subtype, refuse_unsuitable
from vrtool.audio.tags import id3_tag, sndfile_tags
from vrtool.errors import AudioError, InputError

# libsndfile's Vorbis encoder keeps what it is given in one call on the stack and crashes on a long song.
WRITE_SAMPLES = 65536

# A wav file counts its bytes in 32 bits; larger ones are RF64 files (EBU Tech 3306), wav in all else.
MAX_WAV_BYTES = (1 << 32) - 65536


def encode(path: Path, samples: FloatArray, sample_rate: int, subtype: Subtype | None = None) -> int:
    """Write `samples` (channel, sample) in the format of the path's suffix; return the number clipped.

    Integer subtypes round to the nearest step, undithered, and clip to full scale; the other formats take
    samples beyond ±1 as they are. The file appears complete or not at all. Raises InputError for an unknown
    suffix or subtype, AudioError for what the format cannot hold, OSError as of the disk (full, read-only).
    """
    output = OUTPUT_FORMATS.get(path.suffix[1:].lower())
    if output is None:
        raise InputError(f"{path}: expected a name that ends in .{', .'.join(OUTPUT_FORMATS)}, found {path.name}")
    chosen = choose_subtype(output, subtype, str(path))
    refuse_unsuitable(str(path), output, len(samples), sample_rate)
    num_channels, num_samples = samples.shape
    with (
        atomic_path(path) as temporary,
        open_writer(
            temporary, path, output, chosen, sample_rate=sample_rate, num_channels=num_channels, num_samples=num_samples
        ) as writer,
    ):
        writer.write(samples)
    return writer.num_clipped


class AudioWriter:
    """An audio file on its way to the disk; see `open_writer`."""

    def __init__(
        self, sound: soundfile.SoundFile, file: OutputFile, destination: Path, subtype: Subtype | None, max_bytes: int
    ) -> None:
        self._sound = sound
        self._file = file
        self._destination = destination
        self._subtype = subtype
        self._max_bytes = max_bytes
        self.num_clipped = 0
        """How many samples were clipped, which only integer subtypes do."""

    def write(self, samples: FloatArray) -> None:
        """Write the next samples (channel, sample); errors as of `open_writer`."""
        if self._subtype != "32f" and not np.isfinite(samples).all():
            raise AudioError(
                f"{self._destination}: expected finite samples, found NaN or infinity; only wav with subtype 32f holds "
                "those"
            )
        for start in range(0, samples.shape[1], WRITE_SAMPLES):
            block = samples[:, start : start + WRITE_SAMPLES].T
            if self._subtype in (None, "32f"):
                self._sound.write(block)
            else:
                steps, clipped = quantise(block, int(self._subtype))
                self.num_clipped += clipped
                self._sound.write(steps)
            if self._file.tell() > self._max_bytes:
                raise AudioError(f"{self._destination}: a wav file holds up to 4 GB, found more audio; use flac")


@contextmanager
def open_writer(
    path: Path,
    destination: Path,
    output: OutputFormat,
    subtype: Subtype | None,
    *,
    sample_rate: int,
    num_channels: int,
    num_samples: int | None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[AudioWriter]:
    """Give a writer of the file `path`, complete when the block has ended, which errors call `destination`.

    The format holds what it is given (see `refuse_unsuitable`) and has the subtype. `num_samples` is how many samples
    are expected, None if nobody knows; a wav file of more than 4 GB has to know. Of `tags` (see `vrtool.audio.tags`)
    is written what the format has. Raises AudioError for samples that cannot be kept, OSError as of the disk.
    """
    sample_bytes = {"8": 1, "16": 2, "24": 3, None: 0}.get(subtype, 4)
    is_large = output.name == "WAV" and (num_samples or 0) * num_channels * sample_bytes > MAX_WAV_BYTES
    max_bytes = MAX_WAV_BYTES if output.name == "WAV" and not is_large else 1 << 62
    with OutputFile(path, id3_tag(tags or {}) if output.name == "MP3" else b"") as file:
        try:
            with soundfile.SoundFile(
                file,
                "w",
                samplerate=sample_rate,
                channels=num_channels,
                format="RF64" if is_large else output.name,
                subtype=None if subtype is None else output.subtypes[subtype],
                compression_level=output.compression,
                bitrate_mode="VARIABLE" if output.name == "MP3" else None,
            ) as sound:
                for name, value in sndfile_tags(tags or {}, output.name).items():
                    setattr(sound, name, value)
                yield AudioWriter(sound, file, destination, subtype, max_bytes)
        # A short write ends in libsndfile's own error or trips python-soundfile's assertion.
        except (soundfile.LibsndfileError, AssertionError) as error:
            file.raise_disk_error(destination)
            raise AudioError(f"{destination}: libsndfile could not write {output.name} ({error})") from error
        # The last of a compressed stream is written on closing, where libsndfile reports no failure.
        file.raise_disk_error(destination)


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
