"""Draws a song's mixture and its separated stems as spectrograms, one above the other, on one scale.

    python recipes/draw_spectrograms.py MIXTURE STEMS_FOLDER PICTURE.png [START_SECONDS SECONDS]

Needs the extra "pictures" (matplotlib).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from vrtool.audio.signal import ArraySignal
from vrtool.audio.spectrogram import StftSpec, stft_blocks
from vrtool.audio.waveform import Waveform, read_audio
from vrtool.drawing.song_picture import SongPicture


def main() -> None:
    """Draw the files named on the command line."""
    mixture, stems, picture = (Path(argument) for argument in sys.argv[1:4])
    start, length = (float(argument) for argument in sys.argv[4:6]) if len(sys.argv) > 4 else (0.0, math.inf)
    paths = (mixture, stems / "vocals.wav", stems / "instrumental.wav")
    signals = [excerpt(read_audio(path), start, length) for path in paths]
    spec = StftSpec(sample_rate=signals[0].sample_rate, n_fft=4096, hop_length=1024)
    drawing = SongPicture(stems.resolve().name, spec, start_seconds=start)
    blocks = (stft_blocks(ArraySignal(signal.samples), spec) for signal in signals)
    for frames in zip(*blocks, strict=True):
        drawing.push(*frames)
    drawing.finish(picture)


def excerpt(waveform: Waveform, start: float, length: float) -> Waveform:
    """Return the part of a waveform that begins at `start` and lasts `length`, both in seconds, or to its end."""
    rate = waveform.sample_rate
    end = min(waveform.num_samples, round(min(start + length, waveform.duration_seconds) * rate))
    return Waveform(samples=waveform.samples[:, round(start * rate) : end], sample_rate=rate)


if __name__ == "__main__":
    main()
