"""How large a cache is beside its audio, and how exact.

    python recipes/benchmarks/size.py [FILES ...]

The audio is counted as 16-bit samples at the cache's rate. Errors are relative to the largest magnitude of each frame
and channel; the worst of all frames counts. Without files, made-up music is prepared. The limit is what a
half-overlapping STFT of 16-bit integers takes without anything else: 2 x (n_fft / 2 + 1) / hop_length.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from measure import verdict
from preparation import STFT, made_up_music, task_of

from vrtool.audio.spectrogram import stft
from vrtool.audio.waveform import read_audio, resample
from vrtool.dataset.cache import CachedTrack
from vrtool.dataset.rows import Precision
from vrtool.preparation.track import prepare_track


def main() -> None:
    """Print ratio and error of every file in both precisions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="audio files")
    files = parser.parse_args().files
    print(f"limit of int16: {2 * STFT.num_bins / STFT.hop_length:.4f} times the audio")
    with tempfile.TemporaryDirectory() as folder:
        for path in files or made_up_music(Path(folder)):
            show(path, Path(folder), "int16")
            show(path, Path(folder), "float32")


def show(path: Path, folder: Path, precision: Precision) -> None:
    """Prepare one file and compare what was written with what was to be written."""
    task = task_of(path, folder, precision)
    header = prepare_track(task)
    track = CachedTrack(path=task.destination, header=header, split="training")
    audio_bytes = 2 * header.num_samples * header.num_channels
    expected = stft(resample(read_audio(path), STFT.sample_rate).samples, STFT)
    found = track.read_complex("instrumental", 0, header.num_frames)
    peaks = np.abs(expected).max(axis=1)
    errors = np.abs(found - expected).max(axis=1)
    worst_db = float(20.0 * np.log10(max((errors[peaks > 0.0] / peaks[peaks > 0.0]).max(initial=0.0), 1e-10)))
    print(f"\n{path.name}, {precision}: {header.duration_seconds:.0f} s, {header.num_channels} channels")
    print(f"  {task.destination.stat().st_size / audio_bytes:.4f} times the 16-bit audio")
    print(f"  worst error {worst_db:.1f} dB relative to its frame's peak")
    if precision == "int16":
        print(verdict("  audio / cache", audio_bytes / task.destination.stat().st_size, 1 / 2.1))
        print(verdict("  dB below the peak", -worst_db, 80.0))


if __name__ == "__main__":
    main()
