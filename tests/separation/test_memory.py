"""A song of hours takes no more memory than one of minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("resource", reason="Windows does not tell a process its highest memory this way")

# The highest memory of this process, in MB, after each song.
PROGRAM = """
import resource, sys
import torch
from vrtool.audio.spectrogram import StftSpec
from vrtool.separation.separator import Separator

class Half(torch.nn.Module):
    def forward(self, x):
        return torch.full_like(x, 0.5)

separator = Separator(Half(), StftSpec(sample_rate=8000, n_fft=512, hop_length=256), device="cpu", chunk_frames=256)
for song in sys.argv[2:]:
    separator.separate_file(song, sys.argv[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak / (2**20 if sys.platform == "darwin" else 2**10))
"""


def test_half_an_hour_takes_no_more_memory_than_two_minutes(tmp_path: Path) -> None:
    minute = np.random.default_rng(0).uniform(-0.5, 0.5, 8000 * 60).astype(np.float32)
    songs = []
    for num_minutes in (2, 30):
        songs.append(tmp_path / f"{num_minutes}.wav")
        with soundfile.SoundFile(songs[-1], "w", samplerate=8000, channels=1) as file:
            for _ in range(num_minutes):
                file.write(minute)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), *map(str, songs)], capture_output=True, text=True, check=True
    )
    short, long = map(float, done.stdout.split())
    # One channel of half an hour in float32 takes 55 MB, its spectrogram twice that.
    assert long - short < 25
