"""How long a live stem is behind its mixture, derived, and how long computing it takes, measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vrtool.audio.resampling import resampling_delay_seconds
from vrtool.audio.spectrogram import StftSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long a stream's sample waits at most between its arrival and its stem's, computing left out, in seconds.

    `window` and `look_ahead` are the STFT's and the network's share, `resampling` that of going to the network's rate
    and back.
    """

    window_seconds: float
    look_ahead_seconds: float
    resampling_seconds: float

    @property
    def total_seconds(self) -> float:
        """All of it."""
        return self.window_seconds + self.look_ahead_seconds + self.resampling_seconds


def stream_latency(stft: StftSpec, look_ahead_frames: int, sample_rate: int) -> Latency:
    """Return the latency of a stream at `sample_rate` Hz, given the network's STFT and look-ahead.

    Sample s is complete when the last frame over it is: with n = n_fft and h = hop_length, frame t covers the samples
    from t h - n/2 to before t h + n/2, so that is frame t = floor((s + n/2) / h). Its mask is known with frame t + L, L
    being the look-ahead, and that frame with the samples before (t + L) h + n/2. Of these, counted from s on, there are

        (t + L) h + n/2 - s  =  n + L h - ((s + n/2) mod h),

    n + L h at most and h - 1 fewer at least: samples wait for a window and the look-ahead. Nothing else groups them, as
    every frame is computed when its last sample is there. Resampling there and back adds what each holds back at most;
    as neither does so all the time, most samples wait less, but for some, in a minute or so, it all comes together.
    """
    resampling = resampling_delay_seconds(sample_rate, stft.sample_rate) + resampling_delay_seconds(
        stft.sample_rate, sample_rate
    )
    return Latency(
        window_seconds=stft.n_fft / stft.sample_rate,
        look_ahead_seconds=look_ahead_frames * stft.hop_seconds,
        resampling_seconds=resampling,
    )


# Frame times are counted in classes 2 % wide from a microsecond to 100 s: hours take no more memory than a minute.
SHORTEST_SECONDS = 1e-6
CLASS_RATIO = 1.02
NUM_CLASSES = math.ceil(math.log(100 / SHORTEST_SECONDS, CLASS_RATIO))


class FrameTimes:
    """The computing time of a stream's frames, in seconds; `total_seconds` also has what came before the first one."""

    def __init__(self) -> None:
        self._counts = np.zeros(NUM_CLASSES, np.int64)
        self._num_goes = 0
        self._seconds_without_frame = 0.0
        self._frames_seconds = 0.0
        self.num_frames = 0
        self.total_seconds = 0.0
        self.worst_seconds = 0.0

    def add(self, seconds: float, num_frames: int) -> None:
        """Count what was computed in one go: several frames share its time equally.

        Where none was finished, the time is part of the next ones', but for what had to be done before the first.
        """
        self.total_seconds += seconds
        if num_frames == 0:
            self._seconds_without_frame += seconds if self.num_frames else 0.0
            return
        seconds += self._seconds_without_frame
        self._seconds_without_frame = 0.0
        frame_seconds = seconds / num_frames
        self._num_goes += 1
        self._frames_seconds += seconds
        self.num_frames += num_frames
        self.worst_seconds = max(self.worst_seconds, frame_seconds)
        number = math.ceil(math.log(max(frame_seconds, SHORTEST_SECONDS) / SHORTEST_SECONDS, CLASS_RATIO))
        self._counts[min(number, NUM_CLASSES - 1)] += num_frames

    @property
    def frames_at_once(self) -> float:
        """How many frames were computed in one go, on average: 1 if they came one by one; 0 if there was none."""
        return self.num_frames / max(1, self._num_goes)

    @property
    def mean_seconds(self) -> float:
        """The mean time of a frame; 0 if there was none."""
        return self._frames_seconds / max(1, self.num_frames)

    def quantile_seconds(self, share: float) -> float:
        """Return the time that a share of the frames did not exceed, up to 2 % too long; 0 if there was none."""
        if self.num_frames == 0:
            return 0.0
        number = int(np.searchsorted(np.cumsum(self._counts), share * self.num_frames))
        return min(self.worst_seconds, SHORTEST_SECONDS * CLASS_RATIO**number)
