"""A song's frames from the ancestor's patches: how many there are, and what is in them, joined in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vrtool.audio.spectrogram import BLOCK_FRAMES, ComplexArray
from vrtool.dataset.npz_patch import PatchHeader, Signal, read_patch_header, read_signal
from vrtool.dataset.patch_names import number_of
from vrtool.dataset.track import Role
from vrtool.errors import AudioError


def num_patch_frames(paths: Sequence[Path]) -> int:
    """Return how many frames a song has: up to the last that is not zero in all of its signals, at least 1.

    Reads the first patch's headers and the last one's samples (and those of the one before while all are zero). Raises
    AudioError if a patch is damaged.
    """
    header = read_patch_header(paths[0])
    for path in reversed(paths):
        num_frames = max(_num_frames_with_sound(path, signal) for signal in header.signals)
        if num_frames:
            return number_of(path) * header.num_frames + num_frames
    return 1


def read_patch_frames(paths: Sequence[Path], role: Role, num_frames: int) -> Iterator[ComplexArray]:
    """Yield the first `num_frames` frames of a song's signal, piece by piece, time-major and in order.

    The patches are all there are of a song (as `ancestor_patches.find_patches` gives them), `num_frames` is what
    `num_patch_frames` told of them. Each block is a complex64 (channel, frame, bin) of its own with at most
    BLOCK_FRAMES frames, as those of `stft_blocks`. Memory: one signal of one patch. A pair's vocals are for the caller
    to subtract. Raises AudioError if a patch is damaged, has values that are not finite, or does not fit the first one.
    """
    header = read_patch_header(paths[0])
    assert not (header.is_pair and role == "vocals")
    signal: Signal = "Y" if header.is_pair and role == "instrumental" else "X"
    position = 0
    for path in paths:
        start = min(number_of(path) * header.num_frames, num_frames)
        for first in range(position, start, BLOCK_FRAMES):
            count = min(BLOCK_FRAMES, start - first)
            yield np.zeros((header.num_channels, count, header.num_bins), np.complex64)
        # The last patch may have another length, if somebody has cut off its padding.
        position = num_frames if path == paths[-1] else min(start + header.num_frames, num_frames)
        if position > start:
            yield from _blocks(path, signal, header, position - start)


def _blocks(path: Path, signal: Signal, first: PatchHeader, num_frames: int) -> Iterator[ComplexArray]:
    """Yield the first `num_frames` frames of one patch; its array is released before the next patch is read."""
    array = read_signal(path, signal)
    expected = (first.num_channels, first.num_bins)
    if array.shape[:2] != expected or array.shape[2] < num_frames:
        raise AudioError(
            f"{path}: expected {signal} of {expected[0]} channels, {expected[1]} bins and {num_frames} frames, found "
            f"the shape {array.shape}; run vrtool prepare again"
        )
    for start in range(0, num_frames, BLOCK_FRAMES):
        block = array[:, :, start : min(start + BLOCK_FRAMES, num_frames)]
        yield np.array(block.transpose(0, 2, 1), order="C")  # a copy: a view would keep the whole patch


def _num_frames_with_sound(path: Path, signal: Signal) -> int:
    """Return the number of a patch's frames up to the last that is not zero."""
    sounds = read_signal(path, signal).any(axis=(0, 1))
    return int(np.flatnonzero(sounds)[-1]) + 1 if sounds.any() else 0
