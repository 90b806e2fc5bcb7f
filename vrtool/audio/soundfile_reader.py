"""Read audio files through libsndfile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from vrtool.audio.formats import AudioInfo, FloatArray, RefusedError, Subtype
from vrtool.audio.truncation import refuse_shorter, states_mpeg_length
from vrtool.errors import AudioError

# libsndfile's "unknown" is the largest number of its type, as for a flac file written to a pipe; it then
# fails on reading up to the end.
UNKNOWN_FRAMES = 1 << 62

# How libsndfile calls what keeps sample by sample.
SAMPLES: dict[str, Subtype] = {
    "PCM_U8": "8", "PCM_S8": "8", "PCM_16": "16", "PCM_24": "24", "PCM_32": "32", "FLOAT": "32f", "DOUBLE": "32f",
    "ALAC_16": "16", "ALAC_20": "24", "ALAC_24": "24", "ALAC_32": "32",
}  # fmt: skip

# Full scale of 16-bit samples is 1.
INTEGER_STEP = np.float32(2.0**-15)


class SoundfileReader:
    """A file open in libsndfile; raises RefusedError where libsndfile cannot read all of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Without that statement libsndfile guesses the length of MPEG audio from its first frame and reads no
        # further. Asked beforehand, as it prints warnings about what turns out not to be mp3.
        is_mp3 = path.suffix.lower() == ".mp3"
        if is_mp3 and not states_mpeg_length(path):
            raise RefusedError("no header that states its length")
        # Bytes on posix: python-soundfile encodes strictly and fails on a name that is not valid UTF-8.
        name = os.fsencode(path) if os.name == "posix" else str(path)
        try:
            self._file = soundfile.SoundFile(name)
        except soundfile.LibsndfileError as error:
            raise RefusedError(error.error_string.rstrip(".")) from error
        # A length of zero may be a streamed wav file's "unknown"; ffmpeg understands that, too.
        is_known = 0 < self._file.frames < UNKNOWN_FRAMES
        if not is_known or (self._file.subtype.startswith("MPEG") and not is_mp3):
            self._file.close()
            raise RefusedError("no header that states its length")
        self.info = AudioInfo(
            sample_rate=self._file.samplerate,
            num_channels=self._file.channels,
            num_samples=self._file.frames,
            subtype=self._file.subtype,
            samples=SAMPLES.get(self._file.subtype),
        )

    def blocks(self, block_samples: int) -> Iterator[FloatArray]:
        """Yield the audio in order as (channel, sample); see Reader."""
        decoded = 0
        # libsndfile would return the same numbers, four times as slowly.
        dtype = "int16" if self.info.subtype == "PCM_16" else "float32"
        while True:
            try:
                block = self._file.read(block_samples, dtype=dtype, always_2d=True)
            except soundfile.LibsndfileError as error:
                raise AudioError(
                    f"{self._path}: expected {self.info.subtype} audio, found damaged data after "
                    f"{decoded / self.info.sample_rate:.1f} s ({error.error_string or 'no reason given'}); "
                    "get a complete copy"
                ) from error
            if len(block) == 0:
                break
            decoded += len(block)
            yield block.T if dtype == "float32" else np.multiply(block.T, INTEGER_STEP, dtype=np.float32)
        refuse_shorter(self._path, self.info.num_samples, decoded, self.info.sample_rate)

    def close(self) -> None:
        """Release the file."""
        self._file.close()
