"""Artifact merging while masks come, against a plain reading of its rule on whole songs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrtool.audio.waveform import FloatArray
from vrtool.separation.postprocessing import FADE_FRAMES, MIN_FRAMES, THRESHOLD, MergedMasks


class Given:
    """Masks that are their magnitudes."""

    def push(self, magnitude: FloatArray) -> FloatArray:
        return magnitude

    def finish(self) -> FloatArray:
        return np.zeros((2, 0, 3), np.float32)


def mask_of(stretches: list[tuple[bool, int]]) -> FloatArray:
    """Return a mask (channel, frame, bin) of stretches (are without vocals, frames)."""
    rng = np.random.default_rng(0)
    mask = rng.uniform(THRESHOLD + 0.01, 0.9, (2, sum(count for _, count in stretches), 3)).astype(np.float32)
    start = 0
    for is_instrumental, count in stretches:
        if not is_instrumental:
            mask[1, start : start + count, 2] = THRESHOLD / 2
        start += count
    return mask


def merged(mask: FloatArray, block_frames: int) -> FloatArray:
    masks = MergedMasks(Given())
    blocks = [masks.push(mask[:, start : start + block_frames]) for start in range(0, mask.shape[1], block_frames)]
    return np.concatenate([*blocks, masks.finish()], axis=1)


def weights_of(mask: FloatArray) -> FloatArray:
    """Return the share of what is missing to 1 that merging has added to each frame."""
    change = (merged(mask, 10_000) - mask) / (1.0 - mask)
    weights: FloatArray = change.mean(axis=(0, 2))
    np.testing.assert_allclose(change, np.broadcast_to(weights[:, None], change.shape), atol=1e-5)
    return weights


def test_long_stretches_are_faded_to_the_music_as_it_is_and_back() -> None:
    weights = weights_of(mask_of([(False, 50), (True, 100), (False, 30), (True, MIN_FRAMES), (False, 40)]))
    rise = np.linspace(0, 1, FADE_FRAMES)
    expected = np.concatenate([np.zeros(50), rise, np.ones(35), rise[::-1], np.zeros(1 + 30 + MIN_FRAMES + 40)])
    np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_there_is_no_fade_at_the_ends_of_a_song() -> None:
    weights = weights_of(mask_of([(True, 80), (False, 40), (True, 70)]))
    np.testing.assert_allclose(weights[: 80 - FADE_FRAMES - 1], 1.0, atol=1e-5)
    np.testing.assert_allclose(weights[80:120], 0.0, atol=1e-5)
    np.testing.assert_allclose(weights[120 + FADE_FRAMES : -1], 1.0, atol=1e-5)
    assert weights_of(mask_of([(True, 200)]))[:-1] == pytest.approx(1.0, abs=1e-5)


def test_a_short_gap_fades_once_and_not_to_nothing() -> None:
    weights = weights_of(mask_of([(False, 10), (True, 100), (False, 20), (True, 100), (False, 10)]))
    # The second stretch begins two fades before the end of the first, which is frame 109.
    first = 109 - 2 * FADE_FRAMES
    np.testing.assert_allclose(weights[first : first + FADE_FRAMES], np.linspace(0, 1, FADE_FRAMES), atol=1e-5)
    np.testing.assert_allclose(weights[first + FADE_FRAMES : 229 - FADE_FRAMES], 1.0, atol=1e-5)


@given(
    st.lists(st.tuples(st.booleans(), st.one_of(st.integers(1, 40), st.integers(41, 400))), min_size=1, max_size=8),
    st.integers(1, 300),
)
def test_it_does_not_matter_in_what_pieces_the_masks_come(stretches: list[tuple[bool, int]], block: int) -> None:
    mask = mask_of(stretches)
    whole = merged(mask, mask.shape[1])
    assert whole.shape == mask.shape
    assert np.array_equal(merged(mask, block), whole)
    assert (whole >= mask).all()
    assert (whole <= 1.0).all()
