"""Scoring one song: whatever metrics are asked for, of any number of estimates of its stems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from vrtool.audio.distortion import nsdr, si_sdr
from vrtool.audio.waveform import FloatArray, Waveform
from vrtool.dataset.track import Kind
from vrtool.evaluation.bsseval import BssEval, BssScores
from vrtool.evaluation.kept_music import bass_kept_db, find_dropouts
from vrtool.evaluation.metrics import STEMS, STEMS_OF, MetricName, Stem, measures_of
from vrtool.evaluation.songs import Song

StemScores = dict[str, float | None]
"""A stem's numbers by the key of their measure; None where there is none to tell."""
Estimates = Mapping[Stem, Waveform]
"""Stems in the shape of their song; one that is missing gets no scores."""


class SongJudge:
    """Knows a song's true stems, and scores estimates of them one after another."""

    def __init__(self, song: Song, kind: Kind, metrics: Sequence[MetricName]) -> None:
        self._song, self._kind, self._metrics = song, kind, metrics
        self._truth = {"vocals": song.truth.vocals.samples, "instrumental": song.truth.instrumental.samples}

    @property
    def silent_stems(self) -> tuple[Stem, ...]:
        """The stems of which nothing can be said, though their song should have them."""
        return tuple(stem for stem in STEMS_OF[self._kind] if not self._truth[stem].any())

    def score(self, estimates: Estimates) -> dict[Stem, StemScores]:
        """Return the scores of every stem that the song has, all None for one that is silent or has no estimate."""
        of_bsseval = self._bsseval(estimates)
        found: dict[Stem, StemScores] = {}
        for stem in STEMS_OF[self._kind]:
            scores: StemScores = {measure.key: None for measure in measures_of(self._metrics, self._kind, stem)}
            if stem in estimates and stem not in self.silent_stems:
                scores |= self._scores(stem, estimates[stem].samples, scores) | of_bsseval.get(stem, {})
            found[stem] = scores
        return found

    def _scores(self, stem: Stem, estimate: FloatArray, wanted: StemScores) -> StemScores:
        """Return those of the wanted scores that take one stem to know."""
        truth, sample_rate = self._truth[stem], self._song.mixture.sample_rate
        scores: StemScores = {}
        if "nsdr_db" in wanted:
            scores["nsdr_db"] = nsdr(truth, estimate)
        if "si_sdr_db" in wanted:
            scores["si_sdr_db"] = si_sdr(truth, estimate)
        if "bass_kept_db" in wanted:
            scores["bass_kept_db"] = bass_kept_db(truth, estimate, sample_rate)
        if "dropouts" in wanted and (found := find_dropouts(truth, estimate, sample_rate)) is not None:
            scores |= {"dropouts": found.count, "dropout_seconds": found.seconds}
        return scores

    def _bsseval(self, estimates: Estimates) -> dict[Stem, StemScores]:
        if "bsseval" not in self._metrics or self._kind != "pair" or not estimates:
            return {}
        samples = [estimates[stem].samples if stem in estimates else None for stem in STEMS]
        found = self._bss_eval.score(samples)
        return {stem: _as_scores(scores) for stem, scores in zip(STEMS, found, strict=True) if scores is not None}

    @cached_property
    def _bss_eval(self) -> BssEval:
        return BssEval([self._truth[stem] for stem in STEMS], self._song.mixture.sample_rate)


def _as_scores(scores: BssScores) -> StemScores:
    return {key: getattr(scores, key) for key in ("sdr_db", "isr_db", "sir_db", "sar_db")}
