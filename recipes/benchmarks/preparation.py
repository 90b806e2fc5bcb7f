"""What `vrtool prepare` does per second and core, beside the field's common way and beside what the work alone takes.

    python recipes/benchmarks/preparation.py [FILES ...]

Without files, three minutes of made-up stereo music are prepared as wav (16 bit) and as flac. Needs the extra `dev`
(librosa). One process, one thread each; all three write to the same disk, that of the system's temporary folder (TMPDIR
names another), and sync what they wrote.

- common: librosa.load, librosa.stft of each channel, np.savez of complex64.
- limit: decoding (libsndfile), a real FFT of every frame (scipy), and writing as many bytes as the cache has.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

import argparse
import secrets
import tempfile
from pathlib import Path

import librosa
import numpy as np
import scipy.fft
import soundfile
from measure import measure, verdict

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import Waveform, write_audio
from vrtool.dataset.rows import Precision, row_type
from vrtool.dataset.track import Source, Track
from vrtool.preparation.task import TrackTask
from vrtool.preparation.track import prepare_track

STFT = StftSpec()
NUM_ROUNDS = 5
BLOCK_FRAMES = 32


def main() -> None:
    """Measure every file and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="audio files that libsndfile reads")
    files = parser.parse_args().files
    with tempfile.TemporaryDirectory() as folder:
        for path in files or made_up_music(Path(folder)):
            benchmark(path, Path(folder))


def benchmark(path: Path, folder: Path) -> None:
    """Time one file prepared in the three ways."""
    duration = soundfile.info(path).duration
    seconds = measure(
        {
            "vrtool": lambda: prepare_track(task_of(path, folder)),
            "common": lambda: prepare_in_the_common_way(path, folder),
            "limit": lambda: do_the_work_alone(path, folder),
        },
        NUM_ROUNDS,
    )
    print(f"\n{path.name}: {duration:.0f} s")
    for name, taken in seconds.items():
        print(f"  {name:10} {taken:7.3f} s, {duration / taken:6.0f} times real time")
    print(verdict("  vrtool / common", seconds["common"] / seconds["vrtool"], 3.0))
    print(verdict("  vrtool / limit", seconds["limit"] / seconds["vrtool"], 0.6))


def task_of(path: Path, folder: Path, precision: Precision = "int16") -> TrackTask:
    """Return the task of preparing a file as an instrumental, into a file of a name not used before."""
    return TrackTask(
        track=Track(name=path.name, kind="instrumental", sources={"instrumental": (Source(path=path),)}),
        library="music",
        destination=folder / f"{secrets.token_hex(4)}.h5",
        stft=STFT,
        precision=precision,
        minimum_seconds=1.0,
        align_pairs=True,
    )


def prepare_in_the_common_way(path: Path, folder: Path) -> None:
    """Prepare a file with librosa and numpy."""
    samples, _ = librosa.load(path, sr=STFT.sample_rate, mono=False)
    spectra = [
        librosa.stft(channel, n_fft=STFT.n_fft, hop_length=STFT.hop_length) for channel in np.atleast_2d(samples)
    ]
    spectrogram = np.asfortranarray(spectra)
    with (folder / "track.npz").open("wb") as file:
        np.savez(file, X=spectrogram, c=np.abs(spectrogram).max())
        file.flush()
        os.fsync(file.fileno())


def do_the_work_alone(path: Path, folder: Path) -> None:
    """Decode, transform every frame, and write as much as the cache has, with nothing between."""
    hop, n_fft = STFT.hop_length, STFT.n_fft
    zeros = bytes(BLOCK_FRAMES * 2 * row_type(STFT.num_bins, "int16").itemsize)
    with soundfile.SoundFile(path) as file, (folder / "bytes").open("wb", buffering=0) as output:
        row_bytes = file.channels * row_type(STFT.num_bins, "int16").itemsize
        length = (BLOCK_FRAMES - 1) * hop + n_fft
        for block in file.blocks(length, overlap=n_fft - hop, dtype="float32", always_2d=True):
            if len(block) >= n_fft:
                frames = np.lib.stride_tricks.sliding_window_view(block, n_fft, axis=0)[::hop]
                scipy.fft.rfft(frames)
                output.write(memoryview(zeros)[: len(frames) * row_bytes])
        os.fsync(output.fileno())


def made_up_music(folder: Path) -> list[Path]:
    """Write three minutes of noise and tones, as loud and as hard to compress as music is."""
    rng = np.random.default_rng(0)
    time = np.arange(180 * STFT.sample_rate) / STFT.sample_rate
    tones = sum(np.sin(2 * np.pi * 110 * number * time) / number for number in range(1, 9))
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * time / 4)
    samples = np.stack([0.1 * tones + 0.02 * rng.normal(size=time.size) for _ in range(2)]) * swell
    paths = [folder / "music.wav", folder / "music.flac"]
    for path in paths:
        write_audio(path, Waveform(samples=samples.astype(np.float32), sample_rate=STFT.sample_rate), subtype="16")
    return paths


if __name__ == "__main__":
    main()
