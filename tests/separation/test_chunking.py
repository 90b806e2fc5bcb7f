import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrtool.audio.waveform import FloatArray
from vrtool.errors import InputError
from vrtool.separation.chunking import Chunk, ChunkBlender, Chunker, chunk_weight

sizes = st.tuples(
    st.integers(1, 400), st.integers(1, 90), st.floats(0, 1, exclude_max=True, allow_nan=False)
)  # frames of the song, frames of a chunk, overlap


def plan_chunks(num_frames: int, chunk_frames: int, overlap: float, *, at_once: int = 7) -> list[Chunk]:
    """Return the chunks of a song whose frames come `at_once` at a time."""
    chunker = Chunker(chunk_frames, overlap)
    chunks = []
    for start in range(0, num_frames, at_once):
        chunks += chunker.push(min(at_once, num_frames - start))
    return chunks + chunker.finish()


@given(sizes, st.integers(1, 500))
def test_how_the_frames_come_changes_nothing(size: tuple[int, int, float], at_once: int) -> None:
    assert plan_chunks(*size, at_once=at_once) == plan_chunks(*size, at_once=size[0])


@given(sizes)
def test_a_chunk_is_there_with_its_last_frame_and_needs_none_that_was_let_go(size: tuple[int, int, float]) -> None:
    num_frames, chunk_frames, overlap = size
    chunker = Chunker(chunk_frames, overlap)
    for num_read in range(1, num_frames + 1):
        first = chunker.first_needed_frame
        for chunk in chunker.push(1):
            assert chunk.end_frame == num_read
            assert chunk.start_frame >= first
        assert num_read - chunker.first_needed_frame <= 2 * chunk_frames
    assert all(chunk.start_frame >= chunker.first_needed_frame for chunk in chunker.finish())


@given(sizes)
def test_chunks_cover_every_frame_and_nothing_beyond_the_song(size: tuple[int, int, float]) -> None:
    num_frames, chunk_frames, overlap = size
    covered = np.zeros(num_frames, int)
    for chunk in plan_chunks(num_frames, chunk_frames, overlap):
        assert 0 <= chunk.start_frame < chunk.end_frame <= num_frames
        covered[chunk.start_frame : chunk.end_frame] += 1
    assert covered.min() >= 1


@given(sizes)
def test_every_chunk_of_a_long_song_is_full_and_begins_after_the_one_before(size: tuple[int, int, float]) -> None:
    num_frames, chunk_frames, overlap = size
    chunks = plan_chunks(num_frames, chunk_frames, overlap)
    assert {chunk.num_frames for chunk in chunks} == {min(chunk_frames, num_frames)}
    starts = [chunk.start_frame for chunk in chunks]
    assert starts == sorted(set(starts))


@given(sizes)
def test_neighbours_overlap_by_no_less_than_was_asked_for(size: tuple[int, int, float]) -> None:
    num_frames, chunk_frames, overlap = size
    chunks = plan_chunks(num_frames, chunk_frames, overlap)
    for one, next_one in itertools.pairwise(chunks):
        # To the rounding of the hop to whole frames, of which there is at least one.
        assert next_one.start_frame - one.start_frame <= max(1, chunk_frames * (1 - overlap) + 0.5)


def test_chunks_without_overlap_lie_end_to_end() -> None:
    assert [chunk.start_frame for chunk in plan_chunks(30, 10, 0)] == [0, 10, 20]


def test_the_last_chunk_is_moved_back_to_the_songs_end() -> None:
    assert plan_chunks(25, 10, 0.5)[-1] == Chunk(start_frame=15, num_frames=10)


@pytest.mark.parametrize(("chunk_frames", "overlap"), [(0, 0.5), (-1, 0.5), (8, 1.0), (8, -0.1), (8, float("nan"))])
def test_impossible_chunks_are_refused(chunk_frames: int, overlap: float) -> None:
    with pytest.raises(InputError, match="is usual"):
        plan_chunks(100, chunk_frames, overlap)


@given(st.integers(1, 5000))
def test_weights_are_positive_symmetric_and_highest_mid_chunk(num_frames: int) -> None:
    weight = chunk_weight(num_frames)
    assert weight.shape == (num_frames,)
    assert weight.dtype == np.float32
    assert weight.min() > 0
    assert weight.max() <= 1
    assert np.argmax(weight) in {(num_frames - 1) // 2, num_frames // 2}
    np.testing.assert_allclose(weight, weight[::-1], rtol=1e-4, atol=1e-6)


def _blend(chunks: list[Chunk], masks: list[FloatArray]) -> FloatArray:
    blender = ChunkBlender()
    pieces = [blender.push(chunk, mask) for chunk, mask in zip(chunks, masks, strict=True)]
    return np.concatenate([*pieces, blender.finish()], axis=1)


@given(sizes)
def test_blending_what_chunks_agree_on_gives_it_back_on_every_frame(size: tuple[int, int, float]) -> None:
    num_frames, chunk_frames, overlap = size
    song = np.random.default_rng(0).random((2, num_frames, 3), np.float32)
    chunks = plan_chunks(num_frames, chunk_frames, overlap)
    masks = [song[:, chunk.start_frame : chunk.end_frame] for chunk in chunks]
    np.testing.assert_allclose(_blend(chunks, masks), song, atol=1e-6)


@given(sizes)
def test_blending_equals_the_weighted_average_over_the_whole_song(size: tuple[int, int, float]) -> None:
    num_frames, chunk_frames, overlap = size
    rng = np.random.default_rng(1)
    chunks = plan_chunks(num_frames, chunk_frames, overlap)
    masks = [rng.random((1, chunk.num_frames, 2), np.float32) for chunk in chunks]
    summed, weights = np.zeros((1, num_frames, 2)), np.zeros((num_frames, 1))
    for chunk, mask in zip(chunks, masks, strict=True):
        weight = chunk_weight(chunk.num_frames).astype(float)[:, None]
        summed[:, chunk.start_frame : chunk.end_frame] += mask * weight
        weights[chunk.start_frame : chunk.end_frame] += weight
    np.testing.assert_allclose(_blend(chunks, masks), summed / weights, atol=1e-5)


def test_masks_are_given_as_soon_as_no_later_chunk_can_reach_back() -> None:
    blender = ChunkBlender()
    given = [blender.push(chunk, np.ones((1, 10, 1), np.float32)).shape[1] for chunk in plan_chunks(33, 10, 0.5)]
    assert given == [0, 5, 5, 5, 5, 3]
    assert blender.finish().shape == (1, 10, 1)


def test_a_jump_between_two_chunks_is_spread_over_their_overlap() -> None:
    chunks = plan_chunks(60, 40, 0.5)
    masks = [np.zeros((1, 40, 1), np.float32), np.ones((1, 40, 1), np.float32)]
    blended = _blend(chunks, masks)[0, :, 0]
    # Hann against Hann over 20 frames: the steepest step of a raised cosine is pi / 2 / 20.
    assert np.abs(np.diff(blended)).max() < 0.08
    assert blended[0] == 0
    assert blended[-1] == 1
