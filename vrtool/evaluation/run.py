"""Scoring folders of songs: pairs, songs without vocals and vocals alone, by a network or from written stems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.library import find_pairs, find_tracks
from vrtool.dataset.track import Discovery, Problem, Track
from vrtool.errors import AudioError, InputError
from vrtool.evaluation.ideal_mask import ideal_mask_stems
from vrtool.evaluation.judge import Estimates, SongJudge, StemScores
from vrtool.evaluation.metrics import MetricName, Stem
from vrtool.evaluation.results import Evaluation, SongScores, System
from vrtool.evaluation.songs import Song, read_song
from vrtool.evaluation.systems import Estimator

OnProgress = Callable[[int, int], None]
"""Told how many songs are done, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """What is measured, and how many songs at a time."""

    metrics: tuple[MetricName, ...] = ("nsdr",)
    num_jobs: int = 1

    def __post_init__(self) -> None:
        if self.num_jobs < 1:
            raise InputError(f"at least one song has to be scored at a time, found {self.num_jobs}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """What came of one song."""

    song: SongScores | None = None
    problems: list[Problem] = field(default_factory=list)


def find_songs(
    *, pairs: Sequence[Path] = (), instrumentals: Sequence[Path] = (), vocals: Sequence[Path] = ()
) -> Discovery:
    """Return the songs in folders of pairs (MUSDB18's layout among others), of instrumentals and of vocals.

    Raises InputError if a folder is missing or has no song in it.
    """
    found = [(root, find_pairs(root)) for root in pairs]
    found += [(root, find_tracks(root, "instrumental")) for root in instrumentals]
    found += [(root, find_tracks(root, "vocal")) for root in vocals]
    for root, discovery in found:
        if not discovery.tracks:
            raise InputError(
                f"{root} holds no pairs to evaluate; expected song folders with mixture.* and stems in them"
            )
    return Discovery(
        tracks=[track for _, discovery in found for track in discovery.tracks],
        problems=[problem for _, discovery in found for problem in discovery.problems],
    )


def evaluate(
    songs: Discovery,
    estimators: Mapping[System, Estimator],
    *,
    names: Mapping[System, str] | None = None,
    settings: EvaluationSettings | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Return the scores of the stems that each estimator, "estimate" and perhaps "against", has of the songs.

    The ideal mask is on the STFT of the first estimator that has one (else 44100 Hz, n_fft 2048, hop 1024). Songs and
    stems that cannot be scored become problems, the rest are scored. Raises InputError where an estimator has none.
    """
    settings = settings or EvaluationSettings()
    for estimator in estimators.values():
        estimator.check(songs.tracks)
    stft = next((known for estimator in estimators.values() if (known := estimator.stft) is not None), StftSpec())

    def score(track: Track) -> _Scored:
        problems: list[Problem] = []
        try:
            return _Scored(song=_score_song(track, estimators, settings.metrics, stft, problems), problems=problems)
        except (AudioError, InputError, OSError) as error:
            return _Scored(problems=[*problems, Problem(path=track.name, reason=str(error))])

    scored = _in_threads(score, songs.tracks, settings.num_jobs, on_progress)
    return Evaluation(
        metrics=settings.metrics,
        names=dict(names) if names is not None else {system: system for system in estimators},
        songs=tuple(result.song for result in scored if result.song is not None),
        problems=(*songs.problems, *(problem for result in scored for problem in result.problems)),
    )


def _in_threads(
    score: Callable[[Track], _Scored], tracks: Sequence[Track], num_jobs: int, on_progress: OnProgress | None
) -> list[_Scored]:
    """Return what came of each track, in their order."""
    # Threads: a network is loaded once, and numpy, scipy and torch let go of the interpreter while they compute.
    executor = ThreadPoolExecutor(num_jobs)
    try:
        futures = [executor.submit(score, track) for track in tracks]
        for num_done, future in enumerate(as_completed(futures), start=1):
            future.result()  # what is no song's fault ends it all at once
            if on_progress is not None:
                on_progress(num_done, len(tracks))
        return [future.result() for future in futures]
    finally:
        # After Ctrl-C the songs that have begun are finished, and no other begins.
        executor.shutdown(cancel_futures=True)


def _score_song(
    track: Track,
    estimators: Mapping[System, Estimator],
    metrics: tuple[MetricName, ...],
    stft: StftSpec,
    problems: list[Problem],
) -> SongScores:
    song = read_song(track)
    judge = SongJudge(song, track.kind, metrics)

    # One system after another, none with a name: each is as large as the song, and gone when it has been scored.
    scores: dict[System, dict[Stem, StemScores]] = {
        system: judge.score(estimator.estimate(song, track.kind, problems)) for system, estimator in estimators.items()
    }
    if track.kind == "pair":
        scores["mixture"] = judge.score({"vocals": song.mixture, "instrumental": song.mixture})
        scores["ideal_mask"] = judge.score(_ideal_stems(song, stft))
    return SongScores(
        name=song.name,
        kind=track.kind,
        duration_seconds=song.mixture.duration_seconds,
        scores=scores,
        silent_stems=judge.silent_stems,
    )


def _ideal_stems(song: Song, stft: StftSpec) -> Estimates:
    stems = ideal_mask_stems(song.mixture, song.truth, stft)
    return {"vocals": stems.vocals, "instrumental": stems.instrumental}
