"""What a worker needs of memory for a track that does not fit into it."""

from __future__ import annotations

import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vrtool.audio.formats import FloatArray

SAMPLE_RATE = 16000
CACHE_RATE = 22050
LIMIT_BYTES = 400_000_000

PREPARE = """
import sys
from pathlib import Path
from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.library import find_pairs
from vrtool.preparation.task import TrackTask
from vrtool.preparation.track import prepare_track

(track,) = find_pairs(Path(sys.argv[1])).tracks
header = prepare_track(TrackTask(
    track=track, library="pairs", destination=Path(sys.argv[2]), stft=StftSpec(sample_rate=int(sys.argv[3])),
    precision="int16", minimum_seconds=1.0, align_pairs=True,
))
status = Path("/proc/self/status").read_text()
# Not ru_maxrss, in which the process that started this one counts, too.
print(header.num_samples, int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""


@pytest.fixture
def write_pair(tmp_path: Path, make_signal: Callable[..., FloatArray]) -> Callable[..., Path]:
    """Writes the folder of a pair: of a few seconds that are played again and again, the instrumental a bit late."""

    def write(minutes: int) -> Path:
        voice, instrumental = (
            np.round(30_000 * make_signal(seed, seconds=30.0, num_channels=1, sample_rate=SAMPLE_RATE)).astype("<i2")
            for seed in range(2)
        )
        delay = np.zeros((1, 500), np.int16)
        for name, start, seconds in (
            ("mixture", voice[:, :0], voice // 2 + instrumental),
            ("instrumental", delay, instrumental),
        ):
            path = tmp_path / f"{minutes} minutes/song/{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
                file.writeframes(start.tobytes())
                for _ in range(2 * minutes):
                    file.writeframes(seconds.tobytes())
        return tmp_path / f"{minutes} minutes"

    return write


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has needed at most")
def test_half_an_hour_needs_hardly_more_than_two_minutes(write_pair: Callable[..., Path], tmp_path: Path) -> None:
    peaks_bytes = {}
    for minutes in (2, 30):
        done = subprocess.run(
            [sys.executable, "-c", PREPARE, write_pair(minutes), tmp_path / "song.h5", str(CACHE_RATE)],
            capture_output=True,
            text=True,
            check=True,
        )
        num_samples, peaks_bytes[minutes] = map(int, done.stdout.split())
        assert num_samples == pytest.approx(60 * minutes * CACHE_RATE, abs=CACHE_RATE)
    # As samples, each half of the long pair has 159 MB; the spectrograms of both have 636 MB.
    assert peaks_bytes[30] < LIMIT_BYTES
    assert peaks_bytes[30] - peaks_bytes[2] < 50_000_000
