"""Read audio files, and the audio of videos, through ffmpeg (PyAV)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from vrtool.audio.formats import AudioInfo, FloatArray, RefusedError, Subtype, regrouped
from vrtool.audio.truncation import refuse_shorter
from vrtool.errors import AudioError

# Containers whose header states a stream's length. Elsewhere ffmpeg estimates it from the bit rate or, for
# asf, counts silence before the start into it.
STATES_DURATION = frozenset({"mov", "wav", "flac", "tta", "wv", "aiff", "caf", "ogg", "ape", "tak"})


# Codecs that keep sample by sample; pcm_* are known by their beginning.
LOSSLESS = frozenset({"alac", "ape", "flac", "tak", "tta", "wavpack", "mlp", "truehd", "wmalossless"})

# ffmpeg hands out 24 bits in 32, and does not tell them from 32, which hardly any of these files have.
KEPT_SAMPLES: dict[str, Subtype] = {"u8": "8", "s16": "16", "s32": "24", "flt": "32f", "dbl": "32f"}


class FfmpegReader:
    """An audio stream of a file open in ffmpeg, the first one if `stream` is 0.

    Raises RefusedError where ffmpeg cannot read the file, and AudioError if it has not so many audio streams.
    """

    def __init__(self, path: Path, stream: int = 0) -> None:
        self._path = path
        try:
            # The prefix keeps a name like "live:take.m4a" from being taken for an address, and a playlist in
            # disguise opens no connection.
            self._container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
        except (av.FFmpegError, UnicodeError) as error:
            raise RefusedError(getattr(error, "strerror", None) or str(error)) from error
        if not self._container.streams.audio:
            self._container.close()
            raise AudioError(f"{path}: expected an audio stream, found a file without one; nothing can be decoded")
        num_streams = len(self._container.streams.audio)
        if stream >= num_streams:
            self._container.close()
            raise AudioError(f"{path}: expected {stream + 1} audio streams or more, found {num_streams}")
        self._stream = self._container.streams.audio[stream]
        codec = _decoder(self._stream)
        if codec is None or codec.sample_rate < 1 or codec.layout.nb_channels < 1:
            self._container.close()
            raise RefusedError("no decoder for this stream" if codec is None else "unknown sample rate or channels")
        # Kept: the codec's own changes when the stream does.
        self._layout = codec.layout
        duration = _stated_seconds(self._container, self._stream)
        self.info = AudioInfo(
            sample_rate=codec.sample_rate,
            num_channels=codec.layout.nb_channels,
            num_samples=None if duration is None else round(duration * codec.sample_rate),
            subtype=codec.name,
            samples=_kept_samples(codec),
        )

    def blocks(self, block_samples: int) -> Iterator[FloatArray]:
        """Yield the audio in order as (channel, sample); see Reader."""
        decoded = 0
        try:
            for block in regrouped(self._arrays(), block_samples):
                decoded += block.shape[1]
                yield block
        except av.FFmpegError as error:
            raise AudioError(
                f"{self._path}: expected {self.info.subtype} audio, found damaged data after "
                f"{decoded / self.info.sample_rate:.1f} s ({error.strerror}); get a complete copy"
            ) from error
        refuse_shorter(self._path, self.info.num_samples, decoded, self.info.sample_rate)

    def close(self) -> None:
        """Release the file."""
        self._container.close()

    def _arrays(self) -> Iterator[FloatArray]:
        """Yield each decoded frame as float32 (channel, sample), in the rate and channels of the header.

        Broadcasts switch between mono and stereo, and sample rates can change where files were joined. A
        resampler is bound to what it was first given, so that each change gets a new one.
        """
        resampler: av.AudioResampler | None = None
        current: tuple[str, str, int] | None = None
        for frame in self._container.decode(self._stream):
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != current:
                yield from _resampled(resampler, None)
                resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self.info.sample_rate)
                current = kind
            yield from _resampled(resampler, frame)
        yield from _resampled(resampler, None)


def _decoder(stream: av.AudioStream) -> av.AudioCodecContext | None:
    """Return the stream's decoder; there is none for what ffmpeg does not know or what is encrypted."""
    return stream.codec_context


def _kept_samples(codec: av.AudioCodecContext) -> Subtype | None:
    """Return how a codec keeps samples, None if it is lossy."""
    if codec.name in ("pcm_s32le", "pcm_s32be"):
        return "32"
    if codec.name in ("pcm_alaw", "pcm_mulaw", "pcm_vidc") or not (
        codec.name in LOSSLESS or codec.name.startswith("pcm_")
    ):
        return None
    return KEPT_SAMPLES.get(codec.format.name.removesuffix("p"))


def _resampled(resampler: av.AudioResampler | None, frame: av.AudioFrame | None) -> Iterator[FloatArray]:
    """Yield what the resampler gives back for one frame, or, for None, what it still holds."""
    if resampler is not None:
        for out in resampler.resample(frame):
            yield out.to_ndarray().astype(np.float32, copy=False)


def _stated_seconds(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    """Return the stream's length in seconds if the file itself states it."""
    if stream.time_base is None:
        return None
    formats = set(container.format.name.split(","))
    if formats & STATES_DURATION and stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if "matroska" in formats:
        # When the stream ends, as "00:03:25.120000000"; the container's length is that of its longest stream.
        match = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", stream.metadata.get("DURATION", "").strip("\0 "))
        if match:
            end = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
            return end - float((stream.start_time or 0) * stream.time_base)
    return None
