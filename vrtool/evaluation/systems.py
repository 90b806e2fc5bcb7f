"""Whose stems are scored: a network's, made on the spot, or those that any system has written into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import Waveform
from vrtool.dataset.folders import printable_name
from vrtool.dataset.track import Kind, Problem, Track
from vrtool.errors import AudioError, InputError
from vrtool.evaluation.judge import Estimates
from vrtool.evaluation.metrics import STEMS_OF, Stem
from vrtool.evaluation.songs import Song, find_estimate, read_estimate
from vrtool.model.checkpoint import is_builtin
from vrtool.separation.separator import Separator


class Estimator(Protocol):
    """Gives the stems of one system."""

    @property
    def stft(self) -> StftSpec | None:
        """The spectrogram that its masks are made on, if it has one."""
        ...

    def check(self, tracks: Sequence[Track]) -> None:
        """Raise InputError if there is nothing to score for any of the tracks."""
        ...

    def estimate(self, song: Song, kind: Kind, problems: list[Problem]) -> Estimates:
        """Return the stems of a song; adds a problem for one that there is no estimate of."""
        ...


class ModelEstimator:
    """Separates each song with a network."""

    def __init__(self, separator: Separator) -> None:
        self._separator = separator

    @property
    def stft(self) -> StftSpec | None:
        """The spectrogram that the network was trained on."""
        return self._separator.stft

    def check(self, tracks: Sequence[Track]) -> None:
        """Do nothing: a network can separate anything."""

    def estimate(self, song: Song, kind: Kind, problems: list[Problem]) -> Estimates:  # noqa: ARG002
        """Return both stems of a song."""
        stems = self._separator.separate(song.mixture)
        return {"vocals": stems.vocals, "instrumental": stems.instrumental}


class FolderEstimator:
    """Reads the stems in `folder`/<song>/{vocals,instrumental}.*, at any rate.

    Raises InputError unless `folder` is one.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a folder with a folder of stems per song; there is none")
        self._folder = folder
        self._of_songs = {
            printable_name(path.relative_to(folder).as_posix()): path for path in folder.rglob("*") if path.is_dir()
        }

    @property
    def stft(self) -> StftSpec | None:
        """None: nobody knows."""
        return None

    def check(self, tracks: Sequence[Track]) -> None:
        """Raise InputError if there are no estimates of any of the tracks."""
        if not any(track.name in self._of_songs for track in tracks):
            raise InputError(
                f"{self._folder} holds estimates of none of the {len(tracks)} songs; expected folders named like "
                f"{tracks[0].name}, with vocals.* and instrumental.* in them"
            )

    def estimate(self, song: Song, kind: Kind, problems: list[Problem]) -> Estimates:
        """Return those stems of a song that can be scored; the others become problems."""
        folder = self._of_songs.get(song.name)
        if folder is None:
            reason = f"no estimates; expected vocals.* and instrumental.* in {self._folder / song.name}"
            problems.append(Problem(path=song.name, reason=reason))
            return {}
        found = {stem: _read_or_note(folder, stem, song, problems) for stem in STEMS_OF[kind]}
        return {stem: waveform for stem, waveform in found.items() if waveform is not None}


def is_model(path: Path) -> bool:
    """Return whether a path is that of a network, a checkpoint or a run with one in it, rather than of stems."""
    return path.is_file() or any(path.glob("*.safetensors")) or is_builtin(path)


def _read_or_note(folder: Path, stem: Stem, song: Song, problems: list[Problem]) -> Waveform | None:
    """Return a song's estimate of `stem`, or None and a problem more if it is missing or does not fit."""
    try:
        return read_estimate(find_estimate(folder, stem), song.mixture)
    except (AudioError, InputError, OSError) as error:
        problems.append(Problem(path=song.name, reason=str(error)))
        return None
