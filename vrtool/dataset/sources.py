"""Decode a track's signals from the files behind them, as streams or whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from vrtool.audio.decoding import BLOCK_SAMPLES, open_audio
from vrtool.audio.formats import FloatArray, Reader, regrouped
from vrtool.audio.resampling import resample_blocks
from vrtool.audio.waveform import Waveform
from vrtool.dataset.track import Source
from vrtool.errors import AudioError

# Files of one recording, encoded one by one, differ by a codec's padding; by more, they are not one
# recording.
TOLERATED_SECONDS = 0.5

OnBlock = Callable[[Source, FloatArray], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStream:
    """The gain-weighted sum of audio files, decoded as it is asked for; `blocks` can be read once."""

    sample_rate: int
    num_channels: int
    blocks: Iterator[FloatArray]


@contextmanager
def open_sources(
    sources: Sequence[Source], *, sample_rate: int | None = None, on_block: OnBlock | None = None
) -> Iterator[SourceStream]:
    """Open the sum of audio files, at `sample_rate` or else at the highest of their own, in constant memory.

    Mono files are broadcast to the channels of the others, and all are cut to the shortest. `on_block` sees every block
    of every file as it was decoded. Raises AudioError if a file cannot be decoded, if channels do not fit, or, at the
    end, if lengths differ by more than half a second; InputError if a file is missing.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_audio(source.path, source.stream)) for source in sources]
        _check_channels(sources, readers)
        rate = sample_rate or max(reader.info.sample_rate for reader in readers)
        streams = [_resampled(*opened, rate, on_block) for opened in zip(sources, readers, strict=True)]
        yield SourceStream(
            sample_rate=rate,
            num_channels=max(reader.info.num_channels for reader in readers),
            blocks=streams[0] if len(streams) == 1 else _summed(sources, streams, rate),
        )


def read_sources(sources: Sequence[Source], *, sample_rate: int | None = None) -> Waveform:
    """Return the whole sum that `open_sources` streams."""
    with open_sources(sources, sample_rate=sample_rate) as stream:
        return Waveform(samples=np.concatenate(list(stream.blocks), axis=1), sample_rate=stream.sample_rate)


def _resampled(source: Source, reader: Reader, rate: int, on_block: OnBlock | None) -> Iterator[FloatArray]:
    """Yield one file's audio at another rate, times its gain."""

    def decoded() -> Iterator[FloatArray]:
        for block in reader.blocks(BLOCK_SAMPLES):
            if on_block is not None:
                on_block(source, block)
            yield block

    for block in resample_blocks(decoded(), reader.info.sample_rate, rate):
        yield block if source.gain == 1.0 else np.float32(source.gain) * block


def _summed(sources: Sequence[Source], streams: Sequence[Iterator[FloatArray]], rate: int) -> Iterator[FloatArray]:
    """Yield the sum of streams up to the end of the shortest; then read the others to their ends, to compare."""
    grouped = [regrouped(stream, BLOCK_SAMPLES) for stream in streams]
    lengths = [0] * len(grouped)
    while blocks := {place: block for place, stream in enumerate(grouped) if (block := next(stream, None)) is not None}:
        all_begin_here = len(set(lengths)) == 1 and len(blocks) == len(grouped)
        for place, block in blocks.items():
            lengths[place] += block.shape[1]
        if all_begin_here:
            num_samples = min(block.shape[1] for block in blocks.values())
            yield sum((block[:, :num_samples] for block in blocks.values()), start=np.zeros(1, np.float32))
    _check_lengths(sources, [length / rate for length in lengths])


def _check_channels(sources: Sequence[Source], readers: Sequence[Reader]) -> None:
    """Raise AudioError unless the files can be added, naming the two that differ."""
    channels = [(reader.info.num_channels, source.path) for source, reader in zip(sources, readers, strict=True)]
    widest = max(channels)
    for count, path in channels:
        if count not in (1, widest[0]):
            raise AudioError(
                f"{path}: expected 1 or {widest[0]} channels as in {widest[1].name}, found {count}; export both alike"
            )


def _check_lengths(sources: Sequence[Source], lengths_seconds: Sequence[float]) -> None:
    lengths = [(seconds, source.path) for source, seconds in zip(sources, lengths_seconds, strict=True)]
    shortest, longest = min(lengths), max(lengths)
    if longest[0] - shortest[0] > TOLERATED_SECONDS:
        raise AudioError(
            f"{shortest[1]}: expected {longest[0]:.2f} s of audio as in {longest[1].name}, found {shortest[0]:.2f} s; "
            f"they may differ by {TOLERATED_SECONDS} s at most, cut them alike"
        )
