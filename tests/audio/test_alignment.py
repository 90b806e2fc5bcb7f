import math
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vrtool.audio.alignment import MAX_OFFSET_SECONDS, MIN_CONFIDENCE, Alignment, align
from vrtool.audio.signal import ArraySignal
from vrtool.audio.waveform import FloatArray, Waveform, read_audio, resample

RATE = 16000
SECONDS = 12.0

# What the file's encoder and a decoder that knows nothing of it delay: 576 samples and 529.
MP3_DELAY = 1105

# Kilobits per second of MPEG-1 layer III, by the header's number.
MP3_BIT_RATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)


@cache
def music(seed: int, seconds: float = SECONDS, rate: int = RATE) -> FloatArray:
    """Notes and drums on two channels, (2, sample), RMS 0.1."""
    rng = np.random.default_rng([seed, 1])
    song = np.zeros((2, round(seconds * rate)))
    for start in np.arange(0, seconds, 0.25):
        pan = rng.uniform(0.2, 0.8)
        time = np.arange(int(rng.uniform(0.2, 0.9) * rate)) / rate
        if rng.random() < 0.4:
            sound = rng.standard_normal(len(time)) * np.exp(-time / 0.05)
        else:
            pitch = 110 * 2 ** (rng.integers(0, 30) / 12)
            harmonics = [np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 8)]
            sound = np.sum(harmonics, axis=0) * np.exp(-time / 0.3)
        place = song[:, int(start * rate) :][:, : len(time)]
        place += np.array([[pan], [1 - pan]]) * sound[: place.shape[1]]
    return at_level(song)


@cache
def voice(seed: int, seconds: float = SECONDS, rate: int = RATE) -> FloatArray:
    """Sung phrases with pauses, in the middle: (2, sample), RMS 0.1."""
    rng = np.random.default_rng([seed, 2])
    time = np.arange(round(seconds * rate)) / rate
    glide = np.interp(time, np.arange(0, seconds + 1, 0.4), rng.uniform(-6, 6, math.ceil((seconds + 1) / 0.4)))
    pitch = 220 * 2 ** ((glide + 0.4 * np.sin(2 * np.pi * 5.5 * time)) / 12)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = np.sum([np.sin(k * phase) / k for k in range(1, 12)], axis=0) + 0.05 * rng.standard_normal(len(time))
    sung = np.interp((time + rng.uniform(0, 2)) % 2.0, [0, 0.1, 1.2, 1.3], [0, 1, 1, 0])
    return at_level(np.tile(tone * sung, (2, 1)))


def at_level(samples: npt.NDArray[np.float64]) -> FloatArray:
    scaled: FloatArray = (samples * (0.1 / np.sqrt(np.mean(samples**2)))).astype(np.float32)
    return scaled


def moved(samples: FloatArray, offset: int) -> FloatArray:
    """Silence before, or the start cut off; the length stays."""
    result = np.zeros_like(samples)
    length = samples.shape[1]
    result[:, max(0, offset) : length + min(0, offset)] = samples[:, max(0, -offset) : length - max(0, offset)]
    return result


def aligned(mixture: FloatArray, part: FloatArray, rate: int = RATE) -> Alignment:
    return align(ArraySignal(mixture), ArraySignal(part), rate)


def decibels(gain: float) -> float:
    return 20 * math.log10(gain)


def assert_found(found: Alignment, offset: int, gain: float = 1.0, *, within_db: float = 0.1) -> None:
    assert found.confidence > 1.5 * MIN_CONFIDENCE
    assert found.offset_samples == offset
    assert found.gain * gain > 0, "the polarity is wrong"
    assert abs(decibels(found.gain / gain)) < within_db


@settings(max_examples=12, deadline=None)
@given(
    offset=st.integers(-2 * RATE, 2 * RATE),
    gain_db=st.floats(-6, 6),
    polarity=st.sampled_from([1.0, -1.0]),
    seed=st.integers(0, 2),
)
def test_offset_gain_and_polarity_of_an_instrumental_are_found(
    offset: int, gain_db: float, polarity: float, seed: int
) -> None:
    gain = polarity * 10 ** (gain_db / 20)
    part = music(seed) / np.float32(gain)
    assert_found(aligned(moved(music(seed) + voice(seed), offset), part), offset, gain)


@pytest.mark.parametrize("rate", [22050, 48000])
def test_other_sample_rates_are_as_exact(rate: int) -> None:
    song, sung = music(3, 8.0, rate), voice(3, 8.0, rate)
    assert_found(aligned(moved(song + sung, 12347), song, rate), 12347)


def test_the_part_may_be_the_vocals() -> None:
    assert_found(aligned(moved(music(0) + voice(0), -7001), voice(0)), -7001)


def test_vocals_20_db_below_the_music_are_found() -> None:
    song, sung = music(1, 30.0), voice(1, 30.0)
    mixture: FloatArray = song + np.float32(0.1) * sung
    assert_found(aligned(moved(mixture, 5003), -sung), 5003, -0.1, within_db=0.5)


def test_an_instrumental_10_db_below_the_vocals_is_found() -> None:
    gain = 10 ** (-10 / 20)
    quiet: FloatArray = music(2) * np.float32(gain)
    assert_found(aligned(moved(quiet + voice(2), 999), music(2)), 999, gain)


@pytest.mark.parametrize("offset_seconds", [-4.9, 4.9])
def test_offsets_up_to_the_maximum_are_found(offset_seconds: float) -> None:
    assert offset_seconds < MAX_OFFSET_SECONDS
    song, sung = music(4, 30.0), voice(4, 30.0)
    offset = round(offset_seconds * RATE)
    assert_found(aligned(moved(song + sung, offset), song), offset)


def test_a_pair_of_equals_needs_nothing_done() -> None:
    found = aligned(music(0), music(0))
    assert found.offset_samples == 0
    assert found.gain == pytest.approx(1.0, abs=1e-5)
    assert found.confidence > 0.9


def test_the_same_pair_gets_the_same_answer() -> None:
    mixture = moved(music(0) + voice(0), 321)
    assert aligned(mixture, music(0)) == aligned(mixture, music(0))


@pytest.mark.parametrize("seed", range(4))
def test_different_songs_are_refused(seed: int) -> None:
    mixture = music(seed) + voice(seed)
    assert aligned(mixture, music(seed + 100)).confidence < MIN_CONFIDENCE / 2
    assert aligned(mixture, voice(seed + 100)).confidence < MIN_CONFIDENCE / 2


def test_songs_that_share_a_few_sounds_are_refused() -> None:
    clicks = np.zeros((2, round(SECONDS * RATE)), np.float32)
    for start in range(1000, clicks.shape[1] - 100, 8000):
        clicks[:, start : start + 80] = np.random.default_rng(start).standard_normal(80) / 3
    assert aligned(music(0) + voice(0) + clicks, music(100) + clicks).confidence < MIN_CONFIDENCE / 2


@pytest.mark.parametrize("speed", [0.999, 0.9999, 0.99995])
def test_a_recording_at_another_speed_is_refused(speed: float) -> None:
    song = music(0, 30.0)
    times = np.arange(song.shape[1])
    slower = np.stack([np.interp(times * speed, times, channel) for channel in song]).astype(np.float32)
    assert aligned(song, slower).confidence < MIN_CONFIDENCE


def test_confidence_is_the_share_of_the_song_that_fits() -> None:
    song, other = music(0, 32.0), music(100, 32.0)
    cut = int(0.7 * song.shape[1])
    found = aligned(song, np.concatenate([song[:, :cut], other[:, cut:]], axis=1))
    assert found.offset_samples == 0
    assert found.confidence == pytest.approx(0.65, abs=0.08)


class TestLoops:
    """One bar over and over: each repetition is as good a place for a bar as the true one."""

    def loop(self, seconds: float) -> FloatArray:
        return np.tile(music(7, 1.5), (1, math.ceil(seconds / 1.5)))[:, : round(seconds * RATE)]

    @pytest.mark.parametrize("offset", [0, 1105, -3000, RATE])
    def test_the_voice_does_not_decide_for_another_repetition(self, offset: int) -> None:
        song = self.loop(30.0)
        assert_found(aligned(moved(song + voice(0, 30.0), offset), song), offset)

    def test_every_repetition_agrees_where_each_is_louder_than_the_one_before(self) -> None:
        song: FloatArray = self.loop(24.0) * np.linspace(0.1, 1, 24 * RATE, dtype=np.float32)
        assert_found(aligned(moved(song, 2000), song), 2000)

    def test_a_loop_does_not_begin_where_the_mixture_is_silent(self) -> None:
        song = self.loop(36.0)
        mixture = moved(song + voice(0, 36.0), 22400)[:, : 30 * RATE]
        assert_found(aligned(mixture, song), 22400)


class TestSilence:
    def test_it_fits_nothing(self) -> None:
        silence = np.zeros_like(music(0))
        for mixture, part in ((music(0), silence), (silence, music(0)), (silence, silence)):
            assert aligned(mixture, part) == Alignment(offset_samples=0, gain=1.0, confidence=0.0)

    def test_a_part_that_is_silent_most_of_the_song_is_judged_where_it_sounds(self) -> None:
        song, sung = music(5, 40.0), voice(5, 40.0).copy()
        sung[:, : 30 * RATE] = 0
        assert_found(aligned(moved(song + sung, 777), sung), 777)

    def test_nor_does_it_count_where_both_are_silent(self) -> None:
        gap = np.zeros((2, 20 * RATE), np.float32)
        song = np.concatenate([music(0), gap, music(1)], axis=1)
        found = aligned(moved(song, -500), song)
        assert_found(found, -500)
        assert found.confidence > 0.8


class TestLengths:
    @pytest.mark.parametrize("offset", [-1500, 0, 1500])
    def test_the_part_may_end_early(self, offset: int) -> None:
        part = music(0)[:, : 7 * RATE]
        assert_found(aligned(moved(music(0) + voice(0), offset), part), offset)

    def test_the_part_may_go_on(self) -> None:
        mixture = music(0) + voice(0)
        assert_found(aligned(mixture[:, 1 * RATE : 7 * RATE], music(0)), -1 * RATE)

    @pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0, 3.0])
    def test_a_short_pair_is_right_or_not_trusted(self, seconds: float) -> None:
        for seed in range(4):
            song, count = music(seed, 5.0), round(seconds * RATE)
            mixture = song + voice(seed, 5.0)
            found = aligned(mixture[:, 8000 : 8000 + count], song[:, : 8000 + count])
            assert found.confidence < MIN_CONFIDENCE or found.offset_samples == -8000

    def test_two_seconds_are_enough_without_voice(self) -> None:
        song = music(0)[:, : 2 * RATE]
        assert_found(aligned(moved(song, 400), song), 400)

    def test_less_than_a_block_is_no_error(self) -> None:
        assert aligned(music(0)[:, :100], music(1)[:, :7]).confidence < MIN_CONFIDENCE


class TestChannels:
    def test_a_mono_mixture_is_the_mean_of_a_stereo_part(self) -> None:
        mono = (music(0) + voice(0)).mean(0, keepdims=True)
        assert_found(aligned(moved(mono, 50), music(0)), 50)

    def test_a_mono_part_is_the_mean_of_what_a_stereo_mixture_holds(self) -> None:
        mono = music(0).mean(0, keepdims=True)
        assert_found(aligned(moved(music(0) + voice(0), 50), mono), 50)

    def test_both_may_be_mono(self) -> None:
        assert_found(aligned(moved(music(0)[:1] + voice(0)[:1], -50), music(0)[:1]), -50)

    def test_a_song_with_one_channel_inverted_does_not_cancel_itself(self) -> None:
        opposite = music(0)[:1] * np.array([[1], [-1]], np.float32)
        assert_found(aligned(moved(opposite, 50), opposite), 50)


class TestCodecs:
    @pytest.mark.parametrize("offset", [-20011, 7, 4444])
    def test_halves_of_60_kbit_per_second_are_found_to_the_sample(self, tmp_path: Path, offset: int) -> None:
        # The filter bank's errors repeat every 32 samples in both halves, wherever the song begins.
        song, sung = music(6, 6.0, 44100), voice(6, 6.0, 44100)
        mixture = through_mp3(tmp_path, moved(song + sung, offset), compression=0.9)
        part = through_mp3(tmp_path, song, compression=0.9)
        assert_found(aligned(mixture, part, 44100), offset, within_db=0.3)

    def test_the_delay_of_an_encoder_is_an_offset(self, tmp_path: Path) -> None:
        song, sung = music(6, 8.0, 44100), voice(6, 8.0, 44100)
        assert_found(aligned(song + sung, through_mp3(tmp_path, song), 44100), -MP3_DELAY)
        assert_found(aligned(through_mp3(tmp_path, song + sung), -song, 44100), MP3_DELAY, -1.0)

    def test_nothing_above_an_earlier_nyquist_frequency_does_not_mislead(self) -> None:
        mixture, part = (
            resample(Waveform(samples=samples, sample_rate=16000), 44100).samples
            for samples in (music(0) + voice(0), music(0))
        )
        assert_found(aligned(moved(mixture, 12345), part, 44100), 12345)


def through_mp3(folder: Path, samples: FloatArray, compression: float = 0.0) -> FloatArray:
    """As decoded from an mp3 file that lost the frame in which its encoder notes the delay."""
    path = folder / "song.mp3"
    soundfile.write(path, samples.T, 44100, compression_level=compression, bitrate_mode="VARIABLE")
    content = path.read_bytes()
    assert content[:2] == b"\xff\xfb"
    assert b"LAME" in content[:300]
    bits_per_second = 1000 * MP3_BIT_RATES[content[2] >> 4]
    path.write_bytes(content[144 * bits_per_second // 44100 + (content[2] >> 1 & 1) :])
    return read_audio(path).samples


class Endless:
    """A signal of any length that takes no memory: noise that returns every 83 s."""

    num_channels = 1

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.num_read = 0
        self._noise = np.random.default_rng(0).standard_normal((1, 83 * 6000)).astype(np.float32)

    def read(self, start: int, count: int) -> FloatArray:
        assert 0 <= start < start + count <= self.num_samples
        self.num_read += count
        return np.take(self._noise, np.arange(start, start + count), axis=1, mode="wrap")


def test_memory_does_not_grow_with_the_song() -> None:
    peaks = []
    for minutes in (12, 24):
        mixture, part = Endless(minutes * 60 * 6000), Endless(minutes * 60 * 6000)
        tracemalloc.start()
        found = align(mixture, part, 6000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert_found(found, 0)
        assert mixture.num_read < mixture.num_samples + 5_000_000, "read once, and some pieces again"
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 100e6
