"""One picture of a whole song: spectrograms of its mixture, vocals and instrumental with axes, on one scale."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vrtool.atomic import atomic_path
from vrtool.audio.formats import FloatArray
from vrtool.audio.spectrogram import ComplexArray, StftSpec
from vrtool.drawing.fonts import drawable_text
from vrtool.drawing.picture import DYNAMIC_RANGE_DB, palette, relative_db, row_edges_hz, row_magnitudes
from vrtool.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

SIGNALS = ("mixture", "vocals", "instrumental")
MAX_COLUMNS = 2000
"""About as many as the picture has pixels across; even, so that columns can be joined in pairs."""
SONG_ROWS = 320
WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 15.0, 10.0, 140
MARKS_HZ = {100: "100", 200: "200", 500: "500", 1000: "1k", 2000: "2k", 5000: "5k", 10000: "10k"}
MARKS_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
MAX_TIME_MARKS = 16
MAX_TITLE_LETTERS = 110

Frames = FloatArray | ComplexArray


def require_matplotlib() -> None:
    """Raise InputError, which says how to get it, unless matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401  # whether it can be imported is all that matters
    except ImportError as error:
        raise InputError(
            f'pictures need the package matplotlib ({error}); pip install "vrtool[pictures]", or do without pictures'
        ) from error


class SongPicture:
    """Takes a song's spectrograms piece by piece, in memory that does not grow with it, and draws them into a PNG.

    `title` stands above the picture, `spec` is the STFT of the frames, and time begins at `start_seconds`. Up to 2,000
    columns are kept; beyond that, neighbours are joined, the louder one in each row winning.
    """

    def __init__(self, title: str, spec: StftSpec, *, start_seconds: float = 0.0) -> None:
        self._title, self._spec, self._start_seconds = title, spec, start_seconds
        self._columns = np.zeros((len(SIGNALS), MAX_COLUMNS, SONG_ROWS), np.float32)
        self._frames_per_column = 1
        self._num_frames = 0

    def push(self, mixture: Frames, vocals: Frames, instrumental: Frames) -> None:
        """Take the next frames of each signal: complex or magnitudes, (channel, frame, bin), of one shape."""
        assert mixture.shape == vocals.shape == instrumental.shape
        if mixture.shape[1] == 0:
            return
        places = self._num_frames + np.arange(mixture.shape[1])
        while places[-1] >= MAX_COLUMNS * self._frames_per_column:
            self._join_pairs()
        columns = places // self._frames_per_column
        starts = np.flatnonzero(np.diff(columns, prepend=-1))
        for kept, frames in zip(self._columns, (mixture, vocals, instrumental), strict=True):
            # Columns before rows: of a long song that leaves little to do for the rows.
            magnitude = np.maximum.reduceat(np.abs(frames).mean(axis=0), starts, axis=0)
            part = kept[columns[0] : columns[-1] + 1]
            # A column may have begun with the frames before.
            np.maximum(part, row_magnitudes(magnitude, self._spec, SONG_ROWS), out=part)
        self._num_frames += mixture.shape[1]

    def finish(self, path: Path) -> None:
        """Write the picture; it appears complete or not at all. Raises InputError without matplotlib."""
        require_matplotlib()
        figure = self._draw()
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})

    def _join_pairs(self) -> None:
        half = MAX_COLUMNS // 2
        self._columns[:, :half] = np.maximum(self._columns[:, ::2], self._columns[:, 1::2])
        self._columns[:, half:] = 0
        self._frames_per_column *= 2

    def _draw(self) -> Figure:
        # Not pyplot, which keeps figures for all threads and looks for a screen.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
        all_axes: npt.NDArray[np.object_] = figure.subplots(len(SIGNALS), 1, sharex=True, sharey=True)
        num_columns = max(1, math.ceil(self._num_frames / self._frames_per_column))
        columns = self._columns[:, :num_columns]
        decibels = relative_db(columns, float(columns.max()))
        for axes, name, levels in zip(all_axes, SIGNALS, decibels, strict=True):
            image = self._draw_signal(axes, levels)
            axes.set_title(name, loc="left")
        all_axes[-1].set_xlabel("time")
        figure.colorbar(
            image, ax=list(all_axes), label="dB relative to the loudest point of all three", pad=0.01, aspect=50
        )
        title = drawable_text(_shortened(self._title), weight="bold")
        # A dollar sign in a name begins no formula.
        figure.suptitle(title.text, parse_math=False, fontsize="x-large", fontweight="bold", fontfamily=title.families)
        return figure

    def _draw_signal(self, axes: Axes, levels: FloatArray) -> AxesImage:
        """Draw levels (column, row) in dB; frequency is the axis's decimal logarithm of Hz."""
        from matplotlib.colors import ListedColormap

        hop_seconds = self._spec.hop_seconds
        # A column is centred on the middle of its frames, and a frame on its own time.
        left = self._start_seconds - hop_seconds / 2
        right = left + len(levels) * self._frames_per_column * hop_seconds
        edges_hz = row_edges_hz(self._spec, SONG_ROWS)
        image = axes.imshow(
            levels.T,
            cmap=ListedColormap(palette() / 255.0),
            vmin=-DYNAMIC_RANGE_DB,
            vmax=0.0,
            origin="lower",
            aspect="auto",
            extent=(left, right, math.log10(edges_hz[0]), math.log10(edges_hz[-1])),
        )
        last = self._start_seconds + max(1, self._num_frames - 1) * hop_seconds
        axes.set_xlim(self._start_seconds, last)
        marks = time_marks(self._start_seconds, last)
        axes.set_xticks(marks, [time_label(mark) for mark in marks])
        heights = {hz: label for hz, label in MARKS_HZ.items() if edges_hz[0] <= hz <= edges_hz[-1]}
        axes.set_yticks([math.log10(hz) for hz in heights], list(heights.values()))
        axes.set_ylabel("Hz")
        return image


def time_marks(first: float, last: float) -> list[float]:
    """Return round times in seconds between two others, 16 at most."""
    step = next((step for step in MARKS_SECONDS if (last - first) / step < MAX_TIME_MARKS), MARKS_SECONDS[-1])
    while (last - first) / step >= MAX_TIME_MARKS:
        step *= 2
    return [number * step for number in range(math.ceil(first / step), math.floor(last / step) + 1)]


def time_label(seconds: float) -> str:
    """Return a time as it stands on the axis: 0.5, 0:07, 3:20, 1:02:00."""
    if seconds != round(seconds):
        return f"{seconds:.1f}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _shortened(title: str) -> str:
    return title if len(title) <= MAX_TITLE_LETTERS else title[: MAX_TITLE_LETTERS - 1] + "…"
