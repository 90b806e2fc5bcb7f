"""A picture of what became of a song, drawn from its stems as they come."""

from __future__ import annotations

from pathlib import Path

from vrtool.audio.spectrogram import ComplexArray, StftSpec, StftStream
from vrtool.drawing.song_picture import SongPicture
from vrtool.separation.stems import Stems

N_FFT, HOP_LENGTH = 4096, 1024


class StemPicture:
    """Takes the stems of a song piece by piece and draws their spectrograms below that of their sum, the mixture."""

    def __init__(self, title: str, *, sample_rate: int, num_channels: int) -> None:
        spec = StftSpec(sample_rate=sample_rate, n_fft=N_FFT, hop_length=HOP_LENGTH)
        self._picture = SongPicture(title, spec)
        self._vocals, self._instrumental = StftStream(spec, num_channels), StftStream(spec, num_channels)

    def push(self, stems: Stems) -> None:
        """Take the song's next samples."""
        self._draw(self._vocals.push(stems.vocals.samples), self._instrumental.push(stems.instrumental.samples))

    def finish(self, path: Path) -> None:
        """Write the picture, a PNG; it appears complete or not at all. Raises InputError without matplotlib."""
        self._draw(self._vocals.finish(), self._instrumental.finish())
        self._picture.finish(path)

    def _draw(self, vocals: ComplexArray, instrumental: ComplexArray) -> None:
        # The STFT is linear.
        self._picture.push(vocals + instrumental, vocals, instrumental)
