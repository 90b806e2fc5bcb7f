"""Draws a song's mixture and its separated stems as spectrograms, one above the other, on one scale.

    python recipes/draw_spectrograms.py MIXTURE STEMS_FOLDER PICTURE.png [START_SECONDS SECONDS]

Needs the extra "pictures" (matplotlib).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt

from vrtool.audio.spectrogram import StftSpec, stft
from vrtool.audio.waveform import read_audio

mpl.use("Agg")
DYNAMIC_RANGE_DB = 80.0
LOWEST_HZ, HIGHEST_HZ = 50.0, 16000.0


def main() -> None:
    """Draw the files named on the command line."""
    mixture, stems, picture = (Path(argument) for argument in sys.argv[1:4])
    start, length = (float(argument) for argument in sys.argv[4:6]) if len(sys.argv) > 4 else (0.0, 20.0)
    paths = {"mixture": mixture, "vocals": stems / "vocals.wav", "instrumental": stems / "instrumental.wav"}
    levels = {name: level_db(path, start, length) for name, path in paths.items()}
    loudest = max(values.max() for values, _ in levels.values())
    figure, axes = plt.subplots(3, 1, figsize=(9, 8), sharex=True, layout="constrained")
    for axis, (name, (values, spec)) in zip(axes, levels.items(), strict=True):
        seconds = start + np.arange(values.shape[1]) * spec.hop_length / spec.sample_rate
        bins_hz = np.arange(spec.num_bins) * spec.sample_rate / spec.n_fft
        mesh = axis.pcolormesh(
            seconds, bins_hz[1:], values[1:] - loudest, vmin=-DYNAMIC_RANGE_DB, vmax=0.0, cmap="magma", rasterized=True
        )
        axis.set_yscale("log")
        axis.set_ylim(LOWEST_HZ, HIGHEST_HZ)
        axis.set_yticks([100, 1000, 10000], ["100", "1k", "10k"])
        axis.set_title(name, loc="left")
        axis.set_ylabel("Hz")
    axes[-1].set_xlabel("seconds")
    figure.colorbar(mesh, ax=axes, label="dB relative to the loudest point", shrink=0.5)
    figure.savefig(picture, dpi=100)


def level_db(path: Path, start: float, length: float) -> tuple[npt.NDArray[np.float32], StftSpec]:
    """Return the magnitudes in dB of a part of a file, its channels averaged: shape (bin, frame)."""
    waveform = read_audio(path)
    rate = waveform.sample_rate
    part = waveform.samples[:, round(start * rate) : round((start + length) * rate)].mean(axis=0, keepdims=True)
    spec = StftSpec(sample_rate=rate, n_fft=4096, hop_length=1024)
    decibels: npt.NDArray[np.float32] = 20.0 * np.log10(np.abs(stft(part, spec)[0]) + 1e-6)
    return decibels, spec


if __name__ == "__main__":
    main()
