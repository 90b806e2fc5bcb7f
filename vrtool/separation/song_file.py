"""One song from file to files: decoded, split and encoded as one stream, whatever its length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from vrtool.atomic import atomic_path, new_path, refuse_replacing, remove_abandoned
from vrtool.audio.decoding import BLOCK_SAMPLES, open_audio
from vrtool.audio.encoding import AudioWriter, open_writer
from vrtool.audio.formats import AudioInfo, FloatArray, Reader, Subtype
from vrtool.audio.output_formats import OUTPUT_FORMATS, choose_subtype, faithful_subtype, refuse_unsuitable
from vrtool.audio.spool import Spool, open_spool
from vrtool.audio.tags import read_tags
from vrtool.errors import AudioError, InputError
from vrtool.separation.song_stream import OnProgress, SongStream, split_blocks
from vrtool.separation.stem_picture import StemPicture
from vrtool.separation.stems import Stems, check_channels

StemName = Literal["vocals", "instrumental"]

STEM_NAMES: tuple[StemName, ...] = ("vocals", "instrumental")

ClipMode = Literal["warn", "rescale", "clamp"]
"""What becomes of samples beyond full scale where a format has no room for them.

warn: they are clipped and counted (in lossy formats kept and counted, for players clip them); clamp: they are clipped,
which was asked for; rescale: all stems of the song are turned down alike until the loudest fits. Float formats have
room for any sample.
"""


class OpenSong(Protocol):
    """Gives the start of a song; `Separator.open_stream` is one."""

    def __call__(self, *, sample_rate: int, num_channels: int) -> SongStream:
        """Return the stream of a song."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StemFormat:
    """How stems are written: a format of OUTPUT_FORMATS, a subtype of it, and what happens beyond full scale.

    Without a subtype integers stay integers of as many bits and floats stay floats where the format has them; what has
    no bit depth, as mp3, becomes the format's most exact one. Raises InputError for a format or a subtype that there is
    not.
    """

    name: str = "wav"
    subtype: Subtype | None = None
    clip_mode: ClipMode = "warn"

    def __post_init__(self) -> None:
        if self.name not in OUTPUT_FORMATS:
            raise InputError(f"--format {self.name}: expected one of {', '.join(OUTPUT_FORMATS)}")
        if self.subtype is not None:
            choose_subtype(OUTPUT_FORMATS[self.name], self.subtype, f"--subtype {self.subtype}")

    def subtype_for(self, info: AudioInfo) -> Subtype | None:
        """Return the subtype that the stems of a file have; None where the format has none."""
        return self.subtype or faithful_subtype(OUTPUT_FORMATS[self.name], info.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFile:
    """What came of a song: its stems' files, its length, and what was done to samples beyond full scale.

    `num_clipped` are those that were clipped or will be by players, unless that was asked for; `gain_db` is 0, or below
    it where stems were rescaled.
    """

    stems: Mapping[StemName, Path]
    duration_seconds: float
    num_clipped: int
    gain_db: float


def split_file(
    open_song: OpenSong,
    source: Path,
    destinations: Mapping[StemName, Path],
    stem_format: StemFormat,
    *,
    overwrite: bool,
    picture: Path | None = None,
    on_progress: OnProgress | None = None,
) -> SplitFile:
    """Split a song's file and write the stems that have a destination, and a picture of them; return what came of it.

    Stems have the song's sample rate, channels, length and, where the format has room for them, tags. They grow beside
    their destinations under temporary names while the song is read, and appear together when all are complete; after an
    error nothing is left. Memory does not depend on the length. Raises InputError if there is no such file or, unless
    `overwrite`, a stem when all are complete, AudioError if the song cannot be read or its stems cannot be written,
    OSError as of the disk.
    """
    with open_audio(source) as reader, ExitStack() as stack:
        info = reader.info
        subtype = stem_format.subtype_for(info)
        with _naming(source):
            check_channels(info.num_channels)
        for destination in destinations.values():
            refuse_unsuitable(str(destination), OUTPUT_FORMATS[stem_format.name], info.num_channels, info.sample_rate)
        tags = read_tags(source)
        stack.enter_context(_folders_of([*destinations.values(), *([picture] if picture is not None else [])]))
        writers = _open_writers(stack, destinations, stem_format, info, tags, overwrite=overwrite)
        pieces = _split(open_song, reader, source, on_progress)
        drawing = None
        if picture is not None:
            drawing = StemPicture(source.stem, sample_rate=info.sample_rate, num_channels=info.num_channels)
            pieces = _drawn(pieces, drawing)
        if stem_format.clip_mode == "rescale" and subtype != "32f":
            spool_folder = next(iter(destinations.values())).parent
            num_samples, gain = _write_rescaled(pieces, writers, subtype, spool_folder, info.num_channels)
            num_clipped = 0
        else:
            num_samples, num_clipped = _write(pieces, writers, subtype, stem_format.clip_mode)
            gain = 1.0
        if not overwrite:
            for destination in destinations.values():
                refuse_replacing(destination)  # before any stem has its name: all are there, or none
        if drawing is not None and picture is not None:
            drawing.finish(picture)
    return SplitFile(
        stems=destinations,
        duration_seconds=num_samples / info.sample_rate,
        num_clipped=num_clipped,
        gain_db=20 * math.log10(gain),
    )


def _open_writers(
    stack: ExitStack,
    destinations: Mapping[StemName, Path],
    stem_format: StemFormat,
    info: AudioInfo,
    tags: Mapping[str, str],
    *,
    overwrite: bool,
) -> dict[StemName, AudioWriter]:
    """Return the writers of the stems, on the stack: all are closed before the first file takes its name."""
    temporary_path = atomic_path if overwrite else new_path
    parts = {name: stack.enter_context(temporary_path(path)) for name, path in destinations.items()}
    return {
        name: stack.enter_context(
            open_writer(
                part,
                destinations[name],
                OUTPUT_FORMATS[stem_format.name],
                stem_format.subtype_for(info),
                sample_rate=info.sample_rate,
                num_channels=info.num_channels,
                num_samples=info.num_samples,
                tags=tags,
            )
        )
        for name, part in parts.items()
    }


def _split(open_song: OpenSong, reader: Reader, source: Path, on_progress: OnProgress | None) -> Iterator[Stems]:
    sample_rate, num_samples = reader.info.sample_rate, reader.info.num_samples
    total_seconds = None if num_samples is None else num_samples / sample_rate
    num_done = 0
    if on_progress is not None:
        on_progress(0.0, total_seconds)
    song = open_song(sample_rate=sample_rate, num_channels=reader.info.num_channels)
    with _naming(source):
        for stems in split_blocks(reader.blocks(BLOCK_SAMPLES), song):
            yield stems
            num_done += stems.vocals.num_samples
            if on_progress is not None:
                on_progress(num_done / sample_rate, total_seconds)


def _drawn(pieces: Iterator[Stems], drawing: StemPicture) -> Iterator[Stems]:
    """Pass stems on, once they are drawn."""
    for stems in pieces:
        drawing.push(stems)
        yield stems


def _samples(stems: Stems, name: StemName) -> FloatArray:
    return (stems.vocals if name == "vocals" else stems.instrumental).samples


def _write(
    pieces: Iterator[Stems], writers: Mapping[StemName, AudioWriter], subtype: Subtype | None, clip_mode: ClipMode
) -> tuple[int, int]:
    """Write stems as they come; return how many samples a channel has, and how many were clipped without being asked.

    What lossy formats keep beyond full scale counts with them: players clip it.
    """
    num_samples = num_beyond = 0
    for stems in pieces:
        num_samples += stems.vocals.num_samples
        for name, writer in writers.items():
            samples = _samples(stems, name)
            if subtype is None and clip_mode == "clamp":
                samples = np.clip(samples, -1, 1)
            elif subtype is None:
                num_beyond += int(np.count_nonzero(np.abs(samples) > 1))
            writer.write(samples)
    if clip_mode == "clamp":
        return num_samples, 0
    return num_samples, num_beyond + sum(writer.num_clipped for writer in writers.values())


def _write_rescaled(
    pieces: Iterator[Stems],
    writers: Mapping[StemName, AudioWriter],
    subtype: Subtype | None,
    folder: Path,
    num_channels: int,
) -> tuple[int, float]:
    """Write stems when all of them is known, which spool in `folder` until then, turned down as far as they need it.

    Returns how many samples a channel has, and the factor by which all were multiplied.
    """
    with ExitStack() as stack:
        spools = {name: stack.enter_context(open_spool(folder, num_channels)) for name in writers}
        peak = 0.0
        for stems in pieces:
            for name, spool in spools.items():
                samples = _samples(stems, name)
                spool.append(samples)
                peak = max(peak, float(np.abs(samples).max(initial=0)))
        # The largest integer is one step below full scale.
        limit = 1.0 if subtype is None else 1 - 2.0 ** (1 - int(subtype.removesuffix("f")))
        gain = min(1.0, limit / peak) if peak else 1.0
        for name, spool in spools.items():
            for block in _blocks_of(spool):
                # Rounding of float32 shall not lift the peak above the limit again.
                writers[name].write(block if gain == 1 else np.clip(block * np.float32(gain), -limit, limit))
        return next(iter(spools.values())).num_samples, gain


def _blocks_of(spool: Spool) -> Iterator[FloatArray]:
    for start in range(0, spool.num_samples, BLOCK_SAMPLES):
        yield spool.read(start, min(BLOCK_SAMPLES, spool.num_samples - start))


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Let errors of the audio within the block begin with the file's name."""
    try:
        yield
    except AudioError as error:
        if str(error).startswith(str(source)):
            raise
        raise AudioError(f"{source}: {error}") from error


@contextmanager
def _folders_of(destinations: Iterable[Path]) -> Iterator[None]:
    """Make the folders of the destinations; if the block fails, those that were not there before are gone again.

    What killed writers have left in them is deleted.
    """
    folders = {destination.parent for destination in destinations}
    created = {path for folder in folders for path in (folder, *folder.parents) if not path.exists()}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder)
    try:
        yield
    except BaseException:
        # A folder without stems would look like a song that was done. Deepest first; one with other files stays.
        for folder in sorted(created, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        raise
