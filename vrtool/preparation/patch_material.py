"""Frames from the ancestor's patches, which are a spectrogram already: joined, checked and measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vrtool.audio.alignment import Alignment
from vrtool.audio.spectrogram import ComplexArray, StftSpec, hann_window
from vrtool.dataset.header import SETTING_OPTIONS, SignalStatistics
from vrtool.dataset.npz_patch import read_patch_header
from vrtool.dataset.patch_frames import num_patch_frames, read_patch_frames
from vrtool.dataset.patch_names import named_stft
from vrtool.dataset.track import Role, Track
from vrtool.errors import AudioError
from vrtool.preparation.levels import LevelMeter, SampleMeter
from vrtool.preparation.material import check_duration, stored_roles


@dataclass(slots=True, kw_only=True)
class PatchMaterial:
    """A song's patches. See `Material`; levels are what the spectrogram tells, samples are not known."""

    paths: Mapping[Role, tuple[Path, ...]]
    num_channels: int
    num_frames: int
    stft: StftSpec
    _levels: dict[Role, LevelMeter] = field(default_factory=dict)

    @property
    def alignment(self) -> Alignment | None:
        """The ancestor aligned its pairs."""
        return None

    @property
    def num_samples(self) -> int:
        """The audio from the first frame's centre to the last one's."""
        return (self.num_frames - 1) * self.stft.hop_length

    def blocks(self) -> Iterator[tuple[ComplexArray, ...]]:
        """Yield the frames of all stored roles."""
        self._levels = {role: LevelMeter() for role in (*self.paths, "vocals")}
        streams = [read_patch_frames(paths, role, self.num_frames) for role, paths in self.paths.items()]
        for blocks in zip(*streams, strict=True):
            for role, block in zip(self.paths, blocks, strict=True):
                self._levels[role].add_powers(_mean_squares(block, self.stft))
            if len(blocks) == 2:
                self._levels["vocals"].add_powers(_mean_squares(blocks[0] - blocks[1], self.stft))
            yield blocks

    def statistics(self, peaks: Mapping[Role, float]) -> dict[Role, SignalStatistics]:
        """Return the statistics."""
        return {role: self._levels[role].statistics(peaks[role], SampleMeter()) for role in peaks}


def open_patch_material(track: Track, stft: StftSpec, *, minimum_seconds: float) -> PatchMaterial:
    """Return what a track's file is made from.

    Raises AudioError if its patches are damaged, of another STFT, or too few.
    """
    paths = {role: tuple(source.path for source in track.sources[role]) for role in stored_roles(track)}
    patches = next(iter(paths.values()))
    header = read_patch_header(patches[0])
    _check_stft(patches[0], header.num_bins, stft)
    material = PatchMaterial(
        paths=paths, num_channels=header.num_channels, num_frames=num_patch_frames(patches), stft=stft
    )
    check_duration(material.num_samples, stft, minimum_seconds)
    return material


def _check_stft(path: Path, num_bins: int, stft: StftSpec) -> None:
    """Raise AudioError if a patch was made with another STFT than the cache, as far as it tells."""
    if num_bins != stft.num_bins:
        raise AudioError(f"has {num_bins} bins, expected {stft.num_bins}; pass --n-fft {2 * (num_bins - 1)}")
    named = named_stft(path) or stft
    for setting, option in SETTING_OPTIONS.items():
        found, expected = getattr(named, setting), getattr(stft, setting)
        if found != expected:
            raise AudioError(f"its folder's name says {setting} {found}, expected {expected}; pass {option} {found}")


def _mean_squares(block: ComplexArray, stft: StftSpec) -> npt.NDArray[np.floating]:
    """Return the mean square (frame,) of the audio under each frame's window, by Parseval's theorem."""
    energy = np.square(np.abs(block)).sum(axis=-1).mean(axis=0)
    # The bins of negative frequencies are not stored; those at 0 Hz and at the top, counted twice here, hold next to
    # nothing of music.
    powers: npt.NDArray[np.floating] = 2.0 * energy / (stft.n_fft * np.square(hann_window(stft.n_fft)).sum())
    return powers
