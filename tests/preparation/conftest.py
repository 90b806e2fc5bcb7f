"""What a worker is asked to do, for tracks of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.rows import Precision
from vrtool.dataset.track import Track
from vrtool.preparation.task import TrackTask


@pytest.fixture
def task_for(tmp_path: Path, tiny_stft: StftSpec) -> Callable[..., TrackTask]:
    """`task_for(track, minimum_seconds=, precision=, align_pairs=)` is the task to prepare it."""

    def task(
        track: Track, *, minimum_seconds: float = 0.5, precision: Precision = "int16", align_pairs: bool = True
    ) -> TrackTask:
        return TrackTask(
            track=track,
            library="songs",
            destination=tmp_path / "cache" / track.kind / "song.h5",
            stft=tiny_stft,
            precision=precision,
            minimum_seconds=minimum_seconds,
            align_pairs=align_pairs,
        )

    return task
