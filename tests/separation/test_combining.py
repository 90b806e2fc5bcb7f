"""Means of masks that come in pieces of their own, against means of whole masks."""

from __future__ import annotations

import numpy as np
import pytest

from vrtool.audio.waveform import FloatArray
from vrtool.separation.combining import MeanMasks, ShiftedMasks, SwappedMasks
from vrtool.separation.masks import Masks


class LateMasks:
    """A mask that is known so many frames late: `slope` times the magnitude, the right channel half of that."""

    def __init__(self, slope: float, late_frames: int) -> None:
        self._slope, self._late_frames = slope, late_frames
        self.heard: list[FloatArray] = []
        self._num_given = 0

    def push(self, magnitude: FloatArray) -> FloatArray:
        self.heard.append(magnitude)
        return self._until(self._everything().shape[1] - self._late_frames)

    def finish(self) -> FloatArray:
        return self._until(self._everything().shape[1])

    def _everything(self) -> FloatArray:
        return np.concatenate(self.heard, axis=1)

    def _until(self, end: int) -> FloatArray:
        end = max(end, self._num_given)
        found = self.mask(self._everything())[:, self._num_given : end]
        self._num_given = end
        return found

    def mask(self, magnitude: FloatArray) -> FloatArray:
        shares: FloatArray = np.array([1.0, 0.5], np.float32)[: len(magnitude), None, None]
        mask: FloatArray = self._slope * shares * magnitude
        return mask


def magnitudes(num_frames: int) -> FloatArray:
    return np.random.default_rng(0).random((2, num_frames, 3), np.float32)


def masked(masks: Masks, magnitude: FloatArray, block_frames: int) -> FloatArray:
    starts = range(0, magnitude.shape[1], block_frames)
    pieces = [masks.push(magnitude[:, start : start + block_frames]) for start in starts]
    return np.concatenate([*pieces, masks.finish()], axis=1)


@pytest.mark.parametrize("block_frames", [1, 4, 100])
@pytest.mark.parametrize("num_frames", [1, 23])
def test_the_mean_of_masks_waits_for_the_latest(num_frames: int, block_frames: int) -> None:
    magnitude = magnitudes(num_frames)
    members = [LateMasks(0.25, 0), LateMasks(0.75, 7), LateMasks(0.5, 3)]
    mean = masked(MeanMasks(members), magnitude, block_frames)
    np.testing.assert_allclose(mean, LateMasks(0.5, 0).mask(magnitude), rtol=1e-6)


@pytest.mark.parametrize("shift", [0, 1, 5, 40])
@pytest.mark.parametrize("block_frames", [1, 4, 100])
def test_a_shifted_song_is_heard_after_silence_and_masked_without_it(shift: int, block_frames: int) -> None:
    magnitude, inner = magnitudes(23), LateMasks(1.0, 6)
    found = masked(ShiftedMasks(inner, shift), magnitude, block_frames)
    assert np.array_equal(found, LateMasks(1.0, 0).mask(magnitude))
    heard = np.concatenate(inner.heard, axis=1)
    assert not heard[:, :shift].any()
    assert np.array_equal(heard[:, shift:], magnitude)


def test_exchanged_channels_are_exchanged_back() -> None:
    magnitude = magnitudes(9)
    found = masked(SwappedMasks(LateMasks(1.0, 2)), magnitude, 4)
    assert np.array_equal(found, LateMasks(1.0, 0).mask(magnitude[::-1])[::-1])
    assert not np.array_equal(found, LateMasks(1.0, 0).mask(magnitude))
