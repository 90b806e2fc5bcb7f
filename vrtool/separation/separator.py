"""Waveforms in, stems out: a trained network applied to songs of any rate and length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import torch

from vrtool.audio.spectrogram import BLOCK_FRAMES, StftSpec
from vrtool.audio.waveform import FloatArray, Subtype, Waveform
from vrtool.errors import AudioError, InputError
from vrtool.model.acceleration import Precision
from vrtool.model.checkpoint import BUILTIN
from vrtool.model.device import pick_device
from vrtool.model.network import Network
from vrtool.separation.chunking import Chunker
from vrtool.separation.combining import Refinement
from vrtool.separation.masks import ChunkedMasks, MaskNetwork, Masks, OnePassMasks
from vrtool.separation.passes import PassPool
from vrtool.separation.plan import DEFAULT_FILENAME, StemFiles
from vrtool.separation.scale import MEMORY_FRAMES, AsItIs, LoudestOfLate, Scale
from vrtool.separation.song_file import (
    STEM_NAMES,
    ClipMode,
    SplitFile,
    StemFormat,
    StemName,
    split_file,
)
from vrtool.separation.song_stream import OnProgress, SongStream, split_blocks, split_mixture
from vrtool.separation.stems import Stems, check_channels
from vrtool.separation.trained import load_trained

DEFAULT_CHUNK_FRAMES = 256
"""Some 6 s at the usual STFT. Chunks of 1,024 took 1.25 to 1.45 times as long, for attention grows with the square of
their length and features leave the processor's cache. They made stems no better than by 0.03 dB, yet kept 9 dB more of
music without vocals (recipes/builtin/LOG.md)."""

DEFAULT_OVERLAP = 0.125
"""32 frames of 256. A quarter takes 1.17 times as long for 0.05 dB on songs tried, a half 1.75 times for 0.06 dB."""


class Separator:
    """A network, or several whose masks are averaged, ready for songs one after another or from several threads.

    `stft` is the spectrogram the networks were trained on; `num_channels` how many audio channels it takes, 1 or 2 (a
    Network knows it; of any other module, 2 is the default). Chunks have `chunk_frames` frames (default: what the
    network requires, else 256), overlap by the share `overlap` and pass the network `batch_size` at a time; a network
    that can be streamed takes a song in one pass instead. On a CPU chunks are computed beside each other, by at most as
    many threads as torch has when the separator is made. `refinement` takes more time for better stems. `device` is a
    name for `pick_device`; `precision` bfloat16 is faster on hardware that has it. Raises InputError if these do not
    fit.
    """

    def __init__(
        self,
        network: torch.nn.Module | Sequence[torch.nn.Module],
        stft: StftSpec,
        *,
        num_channels: int | None = None,
        device: str = "auto",
        chunk_frames: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 1,
        refinement: Refinement | None = None,
        precision: Precision = "float32",
    ) -> None:
        modules = [network] if isinstance(network, torch.nn.Module) else network
        self.stft = stft
        for module in modules:
            num_channels = _fitting_channels(module, stft, num_channels)
        assert num_channels is not None, "there is a network"
        self.num_channels = num_channels
        self.device = pick_device(device)
        self._networks = [MaskNetwork(module, num_channels, self.device.device, precision) for module in modules]
        self._pool = PassPool(torch.get_num_threads() if self.device.device.type == "cpu" else 1)
        self.chunk_frames = _chosen_chunk_frames(chunk_frames, [network.requires_frames for network in self._networks])
        self.overlap = overlap
        self.batch_size = batch_size
        self.refinement = refinement or Refinement()
        Chunker(self.chunk_frames, overlap)  # which says whether these fit
        if batch_size < 1:
            raise InputError(f"a batch needs 1 chunk or more, found {batch_size}")
        if self.refinement.shifts > 1 and any(network.can_stream for network in self._networks):
            raise InputError("a network that takes songs in one pass has no chunks to shift; leave shifts out")

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path | Sequence[str | Path] = BUILTIN,
        *,
        device: str = "auto",
        chunk_frames: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        batch_size: int = 1,
        refinement: Refinement | None = None,
        precision: Precision = "float32",
    ) -> Self:
        """Return the separator of a checkpoint, a file or the folder of a run, whose best one is taken; or of several.

        Without any it is that of the weights that come with vrtool.
        Raises CheckpointError if there is no checkpoint or it is damaged, InputError as the class does, and if several
        were trained on different spectrograms.
        """
        paths = [path] if isinstance(path, (str, Path)) else list(path)
        if not paths:
            raise InputError("expected a model or more, found none")
        loaded = [load_trained(each, device) for each in paths]
        stft = loaded[0][1]
        for each, (_, other) in zip(paths, loaded, strict=True):
            if other != stft:
                raise InputError(f"{each} was trained on {other}, {paths[0]} on {stft}; masks of both have no mean")
        return cls(
            [network for network, _ in loaded],
            stft,
            device=device,
            chunk_frames=chunk_frames,
            overlap=overlap,
            batch_size=batch_size,
            refinement=refinement,
            precision=precision,
        )

    def separate(self, mixture: Waveform, *, on_progress: OnProgress | None = None) -> Stems:
        """Return the stems of `mixture`: any sample rate, one or two channels, from one sample up.

        They have its sample rate, channels and length, and sum to it. Raises AudioError for more channels, no samples
        or samples that are not finite.
        """
        return split_mixture(mixture, self.stft, self._song_masks(mixture.num_channels), on_progress=on_progress)

    def separate_blocks(self, blocks: Iterable[FloatArray], sample_rate: int) -> Iterator[Stems]:
        """Yield the stems of a song that comes in blocks (channel, sample) of any lengths, as they become known.

        What is yielded lies end to end, every sample once, and sums to the blocks; memory does not grow with the song.
        The first stems are there after two chunks and as many more as a CPU computes beside each other, 4 at most, or
        after a few frames from a network that streams. Raises AudioError as `separate` does; who stops asking ends the
        separation.
        """
        remaining = iter(blocks)
        first = next(remaining, None)
        if first is None:
            raise AudioError("expected at least one sample, found none")
        song = self.open_stream(sample_rate=sample_rate, num_channels=len(first))
        yield from split_blocks(chain([first], remaining), song)

    def separate_file(
        self,
        source: str | Path,
        folder: str | Path,
        *,
        stems: tuple[StemName, ...] = STEM_NAMES,
        audio_format: str = "wav",
        subtype: Subtype | None = None,
        clip_mode: ClipMode = "warn",
        filename: str = DEFAULT_FILENAME,
        overwrite: bool = False,
        images: bool = False,
        on_progress: OnProgress | None = None,
    ) -> SplitFile:
        """Write the stems of a song's file into a folder and return where they are and what came of it.

        As `vrtool separate` does, in constant memory: at the song's sample rate, channels and, unless `subtype` says
        otherwise, bit depth; `filename` is made of {track}, the source's name, {stem} and {ext}, and `images` draws the
        song's spectrograms beside the stems. What `on_progress` raises ends the separation, and nothing is left. Raises
        InputError for what there is not and, unless `overwrite`, for stems that are there; AudioError and OSError as
        `song_file.split_file` does.
        """
        source, folder = Path(source), Path(folder)
        stem_format = StemFormat(name=audio_format, subtype=subtype, clip_mode=clip_mode)
        files = StemFiles(stem_format=stem_format, stems=stems, filename=filename, images=images)
        picture = files.picture_of(source.stem)
        destinations = {stem: folder / files.path_of(source.stem, stem) for stem in stems}
        if existing := [str(path) for path in destinations.values() if path.exists() and not overwrite]:
            raise InputError(f"{' and '.join(existing)}: already there; overwrite replaces, or name another folder")
        return split_file(
            self.open_stream,
            source,
            destinations,
            stem_format,
            overwrite=overwrite,
            picture=picture and folder / picture,
            on_progress=on_progress,
        )

    def open_stream(self, *, sample_rate: int, num_channels: int) -> SongStream:
        """Return the start of a song, which takes blocks of samples as they come and gives those of the stems.

        Raises AudioError for more than two channels.
        """
        check_channels(num_channels)
        return SongStream(self._song_masks(num_channels), self.stft, sample_rate=sample_rate, num_channels=num_channels)

    def mask(self, magnitude: FloatArray) -> FloatArray:
        """Return the instrumental's share, float32 in [0, 1], for a song's magnitudes in [0, 1].

        Both of shape (channel, bin, frame), one or two channels; the magnitudes are heard at the scale that they have.
        """
        masks = self._open_masks(lambda _: AsItIs(), len(magnitude))
        pieces = []
        for start in range(0, magnitude.shape[2], BLOCK_FRAMES):
            frames = magnitude[:, :, start : start + BLOCK_FRAMES].transpose(0, 2, 1)
            pieces.append(masks.push(frames))
        return np.concatenate([*pieces, masks.finish()], axis=1).transpose(0, 2, 1)

    def _song_masks(self, num_channels: int) -> Masks:
        return self._open_masks(lambda num_frames: LoudestOfLate(self.stft, num_frames), num_channels)

    def _open_masks(self, make_scale: Callable[[int], Scale], num_channels: int) -> Masks:
        """Return the start of a song's masks; `make_scale` gives a scale that remembers so many frames."""
        openers = [partial(self._open_network, network, make_scale, num_channels) for network in self._networks]
        hop_frames = Chunker(self.chunk_frames, self.overlap).hop_frames
        return self.refinement.refine(openers, hop_frames=hop_frames, num_channels=num_channels)

    def _open_network(self, network: MaskNetwork, make_scale: Callable[[int], Scale], num_channels: int) -> Masks:
        if network.can_stream:
            return OnePassMasks(network, make_scale(MEMORY_FRAMES), num_channels)
        return ChunkedMasks(
            network,
            make_scale(self.chunk_frames),
            self._pool,
            chunk_frames=self.chunk_frames,
            overlap=self.overlap,
            batch_size=self.batch_size,
        )


def _fitting_channels(network: torch.nn.Module, stft: StftSpec, chosen: int | None) -> int:
    """Return how many audio channels the network takes; InputError unless that, and its bins, can be served."""
    if isinstance(network, Network):
        config = network.config
        if config.n_fft != stft.n_fft:
            raise InputError(f"this network takes spectrograms of n_fft {config.n_fft}, found {stft.n_fft}")
        if chosen not in (None, config.num_channels):
            raise InputError(f"this network takes {config.num_channels} channels, found {chosen}; leave it out")
        chosen = config.num_channels
    num_channels = 2 if chosen is None else chosen
    if num_channels not in (1, 2):
        raise InputError(f"songs have 1 or 2 channels, found a network that takes {num_channels}")
    return num_channels


def _chosen_chunk_frames(chosen: int | None, required: Sequence[int | None]) -> int:
    """Return the frames of a chunk: those chosen, or those that networks require; InputError if these differ."""
    numbers = {number for number in required if number is not None}
    if not numbers:
        return DEFAULT_CHUNK_FRAMES if chosen is None else chosen
    if len(numbers) > 1:
        raise InputError(f"these networks take chunks of {sorted(numbers)} frames, which are not to be averaged")
    (number,) = numbers
    if chosen not in (None, number):
        raise InputError(f"this network takes chunks of exactly {number} frames, found {chosen}; leave it out")
    return number
