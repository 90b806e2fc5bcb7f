"""Scoring a folder of pairs: a network's stems, or stems that any system has written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vrtool.audio.distortion import nsdr
from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import Waveform
from vrtool.dataset.folders import printable_name
from vrtool.dataset.library import Discovery, Problem, find_pairs
from vrtool.errors import AudioError, InputError
from vrtool.evaluation.ideal_mask import ideal_mask_stems
from vrtool.evaluation.results import Evaluation, SongScores, StemScores
from vrtool.evaluation.songs import Song, find_estimate, read_estimate, read_song
from vrtool.separation.separator import Separator

OnProgress = Callable[[int, int], None]
"""Told how many songs are done, and of how many."""

Estimator = Callable[[Song, list[Problem]], StemScores]
"""Scores the estimates of one song; adds a problem for a stem that it cannot score."""


def evaluate_model(pairs: Path, separator: Separator, *, on_progress: OnProgress | None = None) -> Evaluation:
    """Return the scores of the stems that `separator` makes of the pairs below `pairs`.

    Songs that cannot be read become problems, the rest are scored. Raises InputError if there are no pairs.
    """

    def score(song: Song, _problems: list[Problem]) -> StemScores:
        stems = separator.separate(song.mixture)
        return _score_stems(song, vocals=stems.vocals, instrumental=stems.instrumental)

    return _evaluate(_discover(pairs), score, separator.stft, on_progress)


def evaluate_estimates(
    pairs: Path, estimates: Path, *, stft: StftSpec | None = None, on_progress: OnProgress | None = None
) -> Evaluation:
    """Return the scores of the stems in `estimates`/<song>/{vocals,instrumental}.* for the pairs below `pairs`.

    The ideal mask is that of `stft` (default: 44100 Hz, n_fft 2048, hop 1024). Missing or misfit stems become problems,
    the rest are scored. Raises InputError if there are no pairs, or no estimates of any.
    """
    if not estimates.is_dir():
        raise InputError(f"{estimates}: expected a folder with a folder of stems per song; there is none")
    discovery = _discover(pairs)
    folders = {
        printable_name(path.relative_to(estimates).as_posix()): path for path in estimates.rglob("*") if path.is_dir()
    }
    if not any(track.name in folders for track in discovery.tracks):
        raise InputError(
            f"{estimates} holds estimates of none of the {len(discovery.tracks)} songs in {pairs}; expected folders "
            f"named like {discovery.tracks[0].name}, with vocals.* and instrumental.* in them"
        )

    def score(song: Song, problems: list[Problem]) -> StemScores:
        folder = folders.get(song.name)
        if folder is None:
            reason = f"no estimates; expected vocals.* and instrumental.* in {estimates / song.name}"
            problems.append(Problem(path=song.name, reason=reason))
            return StemScores(vocals=None, instrumental=None)
        vocals = _read_or_note(folder, "vocals", song, problems)
        instrumental = _read_or_note(folder, "instrumental", song, problems)
        return _score_stems(song, vocals=vocals, instrumental=instrumental)

    return _evaluate(discovery, score, stft or StftSpec(), on_progress)


def _discover(pairs: Path) -> Discovery:
    discovery = find_pairs(pairs)
    if not discovery.tracks:
        raise InputError(f"{pairs} holds no pairs to evaluate; expected song folders with mixture.* and stems in them")
    return discovery


def _evaluate(discovery: Discovery, estimator: Estimator, stft: StftSpec, on_progress: OnProgress | None) -> Evaluation:
    problems = list(discovery.problems)
    songs: list[SongScores] = []
    for number, track in enumerate(discovery.tracks):
        try:
            songs.append(_score_song(read_song(track), estimator, stft, problems))
        except (AudioError, InputError, OSError) as error:
            problems.append(Problem(path=track.name, reason=str(error)))
        if on_progress is not None:
            on_progress(number + 1, len(discovery.tracks))
    return Evaluation(songs=tuple(songs), problems=tuple(problems))


def _score_song(song: Song, estimator: Estimator, stft: StftSpec, problems: list[Problem]) -> SongScores:
    ideal = ideal_mask_stems(song.mixture, song.truth, stft)
    return SongScores(
        name=song.name,
        duration_seconds=song.mixture.duration_seconds,
        estimate=estimator(song, problems),
        mixture=_score_stems(song, vocals=song.mixture, instrumental=song.mixture),
        ideal_mask=_score_stems(song, vocals=ideal.vocals, instrumental=ideal.instrumental),
    )


def _score_stems(song: Song, *, vocals: Waveform | None, instrumental: Waveform | None) -> StemScores:
    return StemScores(
        vocals=None if vocals is None else nsdr(song.truth.vocals.samples, vocals.samples),
        instrumental=(None if instrumental is None else nsdr(song.truth.instrumental.samples, instrumental.samples)),
    )


def _read_or_note(folder: Path, stem: str, song: Song, problems: list[Problem]) -> Waveform | None:
    """Return a song's estimate of `stem`, or None and a problem more if it is missing or does not fit."""
    try:
        return read_estimate(find_estimate(folder, stem), song.mixture)
    except (AudioError, InputError, OSError) as error:
        problems.append(Problem(path=song.name, reason=str(error)))
        return None
