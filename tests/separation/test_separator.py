"""The separator with networks so small that what they do to a song is known beforehand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.errors import AudioError, InputError, JobError
from vrtool.separation.combining import Refinement
from vrtool.separation.separator import Separator

SPEC = StftSpec(sample_rate=44100, n_fft=512, hop_length=256)


class ConstantMask(nn.Module):
    """The same share for the instrumental everywhere."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.share)


class FramewiseMask(nn.Module):
    """A mask that depends on nothing but the frame's own magnitudes, wherever the frame lies in a chunk."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(20 * x + x.roll(1, dims=2) - 1)


class ChannelMask(nn.Module):
    """Keeps the left channel and removes the right one."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand_as(x)


class Recorder(nn.Module):
    """Keeps what it was given."""

    def __init__(self, requires_frames: int | None = None) -> None:
        super().__init__()
        self.requires_frames = requires_frames
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return torch.ones_like(x) * 0.5


def noise(num_channels: int, num_samples: int, sample_rate: int = 44100, seed: int = 0) -> Waveform:
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal((num_channels, num_samples)).astype(np.float32) * np.float32(0.2)
    return Waveform(samples=samples, sample_rate=sample_rate)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 88200, 96000]),
    st.integers(1, 2),
    st.one_of(st.integers(1, 40), st.integers(41, 30000)),
)
def test_stems_have_the_mixtures_shape_and_sum_to_it(sample_rate: int, num_channels: int, num_samples: int) -> None:
    mixture = noise(num_channels, num_samples, sample_rate)
    stems = Separator(FramewiseMask(), SPEC, chunk_frames=16).separate(mixture)
    for stem in (stems.vocals, stems.instrumental):
        assert stem.sample_rate == sample_rate
        assert stem.samples.shape == mixture.samples.shape
        assert stem.samples.dtype == np.float32
    np.testing.assert_allclose(stems.vocals.samples + stems.instrumental.samples, mixture.samples, atol=1e-6)


@pytest.mark.parametrize("sample_rate", [8000, 44100, 96000])
def test_a_mask_of_ones_leaves_the_instrumental_exactly_the_mixture(sample_rate: int) -> None:
    mixture = noise(2, 5000, sample_rate)
    stems = Separator(ConstantMask(1.0), SPEC).separate(mixture)
    np.testing.assert_array_equal(stems.instrumental.samples, mixture.samples)
    assert not stems.vocals.samples.any()


def test_a_mask_of_zeros_gives_all_of_the_mixture_to_the_vocals() -> None:
    mixture = noise(2, 5000)
    stems = Separator(ConstantMask(0.0), SPEC).separate(mixture)
    np.testing.assert_allclose(stems.vocals.samples, mixture.samples, atol=1e-6)


def test_what_lies_above_the_models_highest_frequency_stays_in_the_instrumental() -> None:
    time = np.arange(96000) / 96000
    high = np.sin(2 * np.pi * 30000 * time).astype(np.float32)[None]
    stems = Separator(ConstantMask(0.0), SPEC).separate(Waveform(samples=high, sample_rate=96000))
    middle = slice(1000, -1000)  # where the tone is cut off it has all frequencies
    np.testing.assert_allclose(stems.instrumental.samples[:, middle], high[:, middle], atol=1e-3)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_chunk_borders_leave_no_trace_when_the_network_judges_frames_alone(overlap: float, batch_size: int) -> None:
    mixture = noise(2, 40000)
    mixture.samples[:] *= 0.05  # below the floor: every chunk is heard at one scale
    whole = Separator(FramewiseMask(), SPEC, chunk_frames=10_000).separate(mixture)
    pieces = Separator(FramewiseMask(), SPEC, chunk_frames=20, overlap=overlap, batch_size=batch_size).separate(mixture)
    np.testing.assert_allclose(pieces.vocals.samples, whole.vocals.samples, atol=1e-6)


def test_a_chunk_is_heard_as_a_share_of_its_own_loudest_unless_that_is_below_the_floor() -> None:
    network = Recorder()
    mixture = noise(2, 20000)
    mixture.samples[:] *= np.linspace(10, 40, 20000)
    mixture.samples[:, :10000] *= 1e-4
    Separator(network, SPEC, chunk_frames=20, overlap=0).separate(mixture)
    largest = [float(x.max()) for x in network.seen]
    assert largest[0] < 0.01
    assert largest[2:] == [1, 1]


def test_a_silent_song_gives_silent_stems() -> None:
    silence = Waveform(samples=np.zeros((2, 5000), np.float32), sample_rate=44100)
    stems = Separator(FramewiseMask(), SPEC).separate(silence)
    assert not stems.vocals.samples.any()
    assert not stems.instrumental.samples.any()


def test_a_mono_song_is_heard_as_stereo_and_its_masks_are_averaged() -> None:
    mixture = noise(1, 5000)
    stems = Separator(ChannelMask(), SPEC).separate(mixture)
    assert stems.vocals.num_channels == 1
    np.testing.assert_allclose(stems.vocals.samples, 0.5 * mixture.samples, atol=1e-6)


def test_a_mono_network_hears_the_sides_of_a_stereo_song_one_by_one() -> None:
    mixture = noise(2, 5000)
    network = Recorder()
    stems = Separator(network, SPEC, num_channels=1).separate(mixture)
    assert network.seen[0].shape[:2] == (2, 1)
    assert stems.vocals.num_channels == 2
    np.testing.assert_allclose(stems.vocals.samples, 0.5 * mixture.samples, atol=1e-6)


def test_channels_are_separated_by_their_own_masks() -> None:
    mixture = noise(2, 5000)
    stems = Separator(ChannelMask(), SPEC).separate(mixture)
    assert not stems.vocals.samples[0].any()
    np.testing.assert_allclose(stems.vocals.samples[1], mixture.samples[1], atol=1e-6)


@pytest.mark.parametrize("num_samples", [1, 3000, 40000])
def test_a_network_of_fixed_length_sees_no_other(num_samples: int) -> None:
    network = Recorder(requires_frames=24)
    stems = Separator(network, SPEC).separate(noise(2, num_samples))
    assert {x.shape[3] for x in network.seen} == {24}
    assert stems.vocals.num_samples == num_samples


def test_a_song_shorter_than_a_chunk_is_seen_as_it_is() -> None:
    network = Recorder()
    Separator(network, SPEC, chunk_frames=1000).separate(noise(2, 2560))
    assert [x.shape for x in network.seen] == [(1, 2, 257, 11)]


def test_another_chunk_length_than_the_network_requires_is_refused() -> None:
    with pytest.raises(InputError, match="exactly 24 frames, found 32"):
        Separator(Recorder(requires_frames=24), SPEC, chunk_frames=32)


def test_more_than_two_channels_are_refused_with_their_number() -> None:
    with pytest.raises(AudioError, match="found 6"):
        Separator(ConstantMask(1), SPEC).separate(noise(6, 100))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_counted(value: float) -> None:
    mixture = noise(2, 1000)
    mixture.samples[1, 10:13] = value
    with pytest.raises(AudioError, match="found 3 that are NaN or infinite"):
        Separator(ConstantMask(1), SPEC).separate(mixture)


def test_no_samples_at_all_are_refused() -> None:
    with pytest.raises(AudioError, match="at least one sample"):
        Separator(ConstantMask(1), SPEC).separate(noise(2, 0))


def test_a_network_whose_mask_is_not_a_number_is_an_error_and_not_a_stem() -> None:
    with pytest.raises(JobError, match="weights are damaged"):
        Separator(ConstantMask(float("nan")), SPEC).separate(noise(2, 1000))


def test_separating_changes_neither_the_mixture_nor_the_next_result() -> None:
    mixture = noise(2, 9000)
    before = mixture.samples.copy()
    separator = Separator(FramewiseMask(), SPEC, chunk_frames=16)
    first, second = separator.separate(mixture), separator.separate(mixture)
    np.testing.assert_array_equal(mixture.samples, before)
    np.testing.assert_array_equal(first.vocals.samples, second.vocals.samples)


def test_progress_counts_the_seconds_that_are_done_up_to_the_last() -> None:
    seen: list[tuple[float, float | None]] = []
    separator = Separator(ConstantMask(1), SPEC, chunk_frames=20, overlap=0, batch_size=2)
    separator.separate(noise(2, 200_000), on_progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 2
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert {total for _, total in seen} == {200_000 / 44100}
    assert seen[-1][0] == 200_000 / 44100


def test_what_the_progress_callback_raises_ends_the_separation() -> None:
    def stop(_done: float, _total: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Separator(ConstantMask(1), SPEC).separate(noise(2, 5000), on_progress=stop)


def test_the_mask_of_magnitudes_is_the_networks_where_one_chunk_holds_them_all() -> None:
    magnitude: FloatArray = np.random.default_rng(0).random((2, 257, 30), np.float32)
    mask = Separator(FramewiseMask(), SPEC).mask(magnitude)
    with torch.inference_mode():
        expected = FramewiseMask()(torch.from_numpy(magnitude)[None])[0].numpy()
    np.testing.assert_allclose(mask, expected, atol=1e-6)


def test_the_network_is_put_into_evaluation_mode() -> None:
    network = nn.Sequential(nn.Dropout(0.5))
    Separator(network, SPEC)
    assert not network.training


def test_the_masks_of_several_networks_are_averaged() -> None:
    mixture = noise(2, 20_000)
    several = Separator([ConstantMask(0.2), ConstantMask(0.6), ChannelMask()], SPEC).separate(mixture)
    expected = mixture.samples * np.array([[1 - 1.8 / 3], [1 - 0.8 / 3]], np.float32)
    np.testing.assert_allclose(several.vocals.samples, expected, atol=1e-5)


def test_averaged_over_exchanged_channels_a_network_treats_both_alike() -> None:
    mixture = noise(2, 20_000)
    swapped = Refinement(channel_swap_average=True)
    stems = Separator(ChannelMask(), SPEC, refinement=swapped).separate(mixture)
    np.testing.assert_allclose(stems.vocals.samples, 0.5 * mixture.samples, atol=1e-5)
    network = Recorder()
    Separator(network, SPEC, num_channels=1, refinement=swapped).separate(noise(1, 1000))
    assert len(network.seen) == 1, "of one channel there is nothing to exchange"


def test_shifts_divide_the_song_at_other_frames_and_change_nothing_else() -> None:
    mixture, network = noise(1, 256 * 99), Recorder()
    shifted = Separator(network, SPEC, num_channels=1, chunk_frames=40, overlap=0, refinement=Refinement(shifts=2))
    shifted.separate(mixture)
    plain = Recorder()
    Separator(plain, SPEC, num_channels=1, chunk_frames=40, overlap=0).separate(mixture)
    assert len(network.seen) == 2 * len(plain.seen)
    (half_silent,) = [x for x in network.seen if not x[..., :20].any()]
    assert half_silent[..., 20:].any()
    stems, others = (
        Separator(FramewiseMask(), SPEC, chunk_frames=10_000, refinement=Refinement(shifts=shifts)).separate(mixture)
        for shifts in (1, 3)
    )
    np.testing.assert_allclose(stems.vocals.samples, others.vocals.samples, atol=1e-5)


def test_what_is_no_voice_is_left_as_it_is_by_postprocessing() -> None:
    mixture = noise(2, 256 * 300)
    stems = Separator(ConstantMask(0.9), SPEC, refinement=Refinement(postprocess=True)).separate(mixture)
    assert np.abs(stems.vocals.samples[:, : 256 * 250]).max() < 1e-6
    sung = Separator(ConstantMask(0.01), SPEC, refinement=Refinement(postprocess=True)).separate(mixture)
    np.testing.assert_allclose(sung.vocals.samples, 0.99 * mixture.samples, atol=1e-5)


def test_what_cannot_be_refined_is_refused() -> None:
    with pytest.raises(InputError, match="chunks are shifted 1 time or more, found 0"):
        Refinement(shifts=0)
    first, second = Recorder(requires_frames=16), Recorder(requires_frames=32)
    with pytest.raises(InputError, match=r"these networks take chunks of \[16, 32\] frames"):
        Separator([first, second], SPEC)
    with pytest.raises(InputError, match="expected a model or more, found none"):
        Separator.from_checkpoint([])
