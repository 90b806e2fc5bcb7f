"""Evaluations of little libraries whose scores can be told beforehand."""

from __future__ import annotations

import math
import threading
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vrtool.audio.spectrogram import StftSpec
from vrtool.audio.waveform import FloatArray, Waveform, write_audio
from vrtool.errors import InputError
from vrtool.evaluation.metrics import METRICS
from vrtool.evaluation.results import Evaluation, SongScores, System
from vrtool.evaluation.run import EvaluationSettings, OnProgress, evaluate, find_songs
from vrtool.evaluation.systems import FolderEstimator, ModelEstimator, is_model
from vrtool.separation.separator import Separator

RATE = 8000
STFT = StftSpec(sample_rate=RATE, n_fft=256, hop_length=128)


class ConstantMask(nn.Module):
    """The same share for the instrumental everywhere."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.share)


def tone(frequency_hz: float, level: float = 0.1, *, num_samples: int = RATE, sample_rate: int = RATE) -> FloatArray:
    time = np.arange(num_samples) / sample_rate
    return (level * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)[None]


VOCALS, INSTRUMENTAL = tone(1000), tone(300, 0.2)


def write(path: Path, samples: FloatArray, sample_rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, Waveform(samples=np.ascontiguousarray(samples), sample_rate=sample_rate))


def write_pair(folder: Path, *, vocals: FloatArray = VOCALS, instrumental: FloatArray = INSTRUMENTAL) -> None:
    write(folder / "vocals.wav", vocals)
    write(folder / "instrumental.wav", instrumental)
    write(folder / "mixture.wav", vocals + instrumental)


def write_estimate(folder: Path, *, vocals: FloatArray = VOCALS, instrumental: FloatArray = INSTRUMENTAL) -> None:
    write(folder / "vocals.wav", vocals)
    write(folder / "instrumental.wav", instrumental)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_pair(tmp_path / "pairs" / "song")
    return tmp_path / "pairs"


@pytest.fixture
def stems(tmp_path: Path) -> Path:
    return tmp_path / "stems"


@dataclass(frozen=True)
class StemScores:
    """nSDR of both stems in dB."""

    vocals: float | None
    instrumental: float | None


def nsdr_of(song: SongScores, system: System) -> StemScores:
    return StemScores(song.score(system, "vocals", "nsdr_db"), song.score(system, "instrumental", "nsdr_db"))


def only_estimate(evaluation: Evaluation) -> StemScores:
    (song,) = evaluation.songs
    return nsdr_of(song, "estimate")


def evaluate_model(pairs: Path, separator: Separator, on_progress: OnProgress | None = None) -> Evaluation:
    return evaluate(find_songs(pairs=[pairs]), {"estimate": ModelEstimator(separator)}, on_progress=on_progress)


def evaluate_estimates(pairs: Path, stems: Path) -> Evaluation:
    return evaluate(find_songs(pairs=[pairs]), {"estimate": FolderEstimator(stems)})


def test_the_mixture_as_estimate_scores_the_ratio_of_the_stems_levels(pairs: Path) -> None:
    (song,) = evaluate_model(pairs, Separator(ConstantMask(0.5), STFT)).songs
    # The vocals are half as loud as the instrumental: 20 log10(1/2) dB, and the reverse.
    assert nsdr_of(song, "mixture").vocals == pytest.approx(-6.0206, abs=1e-3)
    assert nsdr_of(song, "mixture").instrumental == pytest.approx(6.0206, abs=1e-3)


def test_a_network_is_scored_by_the_stems_it_makes(pairs: Path) -> None:
    # Vocals estimate = (v + i) / 4, so the error is 3/4 v - 1/4 i, with i of four times the energy of v.
    (song,) = evaluate_model(pairs, Separator(ConstantMask(0.75), STFT)).songs
    assert nsdr_of(song, "estimate").vocals == pytest.approx(10 * math.log10(1 / (9 / 16 + 4 / 16)), abs=1e-3)
    assert nsdr_of(song, "estimate").instrumental == pytest.approx(10 * math.log10(4 / (9 / 16 + 4 / 16)), abs=1e-3)


def test_the_ideal_mask_beats_the_mixture_by_far(pairs: Path) -> None:
    (song,) = evaluate_model(pairs, Separator(ConstantMask(0.5), STFT)).songs
    ideal = nsdr_of(song, "ideal_mask")
    assert ideal.vocals is not None
    assert ideal.instrumental is not None
    assert ideal.vocals > 20
    assert ideal.instrumental > 20


def test_a_perfect_estimate_is_infinitely_good(pairs: Path, stems: Path) -> None:
    write_estimate(stems / "song")
    assert only_estimate(evaluate_estimates(pairs, stems)) == StemScores(vocals=math.inf, instrumental=math.inf)


def test_an_estimate_with_a_tenth_of_the_vocals_missing_scores_20_db(pairs: Path, stems: Path) -> None:
    write_estimate(stems / "song", vocals=0.9 * VOCALS)
    assert only_estimate(evaluate_estimates(pairs, stems)).vocals == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize("name", ["instrumental.wav", "accompaniment.flac", "no_vocals.wav"])
def test_an_instrumental_may_have_the_name_that_its_system_gives_it(pairs: Path, stems: Path, name: str) -> None:
    write(stems / "song" / "vocals.wav", VOCALS)
    write(stems / "song" / name, INSTRUMENTAL)
    score = only_estimate(evaluate_estimates(pairs, stems)).instrumental
    assert score is not None
    assert score > 100  # flac keeps 24 bits


def test_estimates_at_another_sample_rate_are_resampled(pairs: Path, stems: Path) -> None:
    write(stems / "song" / "vocals.wav", tone(1000, num_samples=44100, sample_rate=44100), 44100)
    write(stems / "song" / "instrumental.wav", tone(300, 0.2, num_samples=44100, sample_rate=44100), 44100)
    scores = only_estimate(evaluate_estimates(pairs, stems))
    assert scores.vocals is not None
    assert scores.vocals > 30  # but for the tone's abrupt ends


def test_stereo_estimates_of_a_mono_song_are_averaged(pairs: Path, stems: Path) -> None:
    sides = np.concatenate([1.2 * VOCALS, 0.8 * VOCALS])
    write_estimate(stems / "song", vocals=sides)
    score = only_estimate(evaluate_estimates(pairs, stems)).vocals
    assert score is not None
    assert score > 100


def test_a_mono_estimate_stands_for_both_sides_of_a_stereo_song(tmp_path: Path, stems: Path) -> None:
    write_pair(tmp_path / "pairs" / "song", vocals=np.repeat(VOCALS, 2, 0), instrumental=np.repeat(INSTRUMENTAL, 2, 0))
    write_estimate(stems / "song")
    assert only_estimate(evaluate_estimates(tmp_path / "pairs", stems)).vocals == math.inf


def test_a_tail_that_an_estimate_lacks_counts_as_silence(pairs: Path, stems: Path) -> None:
    missing = RATE // 20  # 50 ms of 1 s, the tones' periods divide both: a twentieth of the energy
    write_estimate(stems / "song", vocals=VOCALS[:, :-missing])
    assert only_estimate(evaluate_estimates(pairs, stems)).vocals == pytest.approx(10 * math.log10(20), abs=1e-3)


def test_an_estimates_excess_is_cut(pairs: Path, stems: Path) -> None:
    write_estimate(stems / "song", vocals=np.pad(VOCALS, ((0, 0), (0, RATE // 20)), constant_values=1))
    assert only_estimate(evaluate_estimates(pairs, stems)).vocals == math.inf


def test_an_estimate_of_another_length_is_named_and_the_other_stem_scored(pairs: Path, stems: Path) -> None:
    write_estimate(stems / "song", vocals=VOCALS[:, : RATE // 2])
    evaluation = evaluate_estimates(pairs, stems)
    assert only_estimate(evaluation) == StemScores(vocals=None, instrumental=math.inf)
    (problem,) = evaluation.problems
    assert problem.path == "song"
    assert "vocals.wav lasts 0.50 s, its song 1.00 s" in problem.reason


def test_missing_stems_and_songs_are_named_and_the_rest_scored(pairs: Path, stems: Path) -> None:
    write_pair(pairs / "other")
    write(stems / "song" / "vocals.wav", VOCALS)
    evaluation = evaluate_estimates(pairs, stems)
    assert {song.name: nsdr_of(song, "estimate").vocals for song in evaluation.songs} == {
        "song": math.inf,
        "other": None,
    }
    reasons = {problem.path: problem.reason for problem in evaluation.problems}
    assert len(evaluation.problems) == 2
    assert reasons["song"].startswith("no estimate of the instrumental")
    assert str(stems / "other") in reasons["other"]


def test_two_files_for_one_stem_are_not_chosen_between(pairs: Path, stems: Path) -> None:
    write_estimate(stems / "song")
    write(stems / "song" / "no_vocals.wav", INSTRUMENTAL)
    (problem,) = evaluate_estimates(pairs, stems).problems
    assert "instrumental.wav and no_vocals.wav" in problem.reason


def test_estimates_that_are_not_numbers_are_named(pairs: Path, stems: Path) -> None:
    write_estimate(stems / "song", vocals=VOCALS * np.float32(np.nan))
    (problem,) = evaluate_estimates(pairs, stems).problems
    assert "NaN" in problem.reason
    assert "vocals.wav" in problem.reason


def test_a_silent_stem_has_no_score(tmp_path: Path) -> None:
    write_pair(tmp_path / "pairs" / "song", vocals=np.zeros_like(VOCALS))
    evaluation = evaluate_model(tmp_path / "pairs", Separator(ConstantMask(1.0), STFT))
    (song,) = evaluation.songs
    assert nsdr_of(song, "estimate") == StemScores(vocals=None, instrumental=math.inf)
    assert song.silent_stems == ("vocals",)
    assert evaluation.num_silent == 1


def test_vocals_that_are_not_there_are_what_the_instrumental_leaves(tmp_path: Path, stems: Path) -> None:
    write_pair(tmp_path / "pairs" / "song")
    (tmp_path / "pairs" / "song" / "vocals.wav").unlink()
    write_estimate(stems / "song")
    score = only_estimate(evaluate_estimates(tmp_path / "pairs", stems)).vocals
    assert score is not None
    assert score > 100


def test_a_broken_song_is_named_and_the_rest_scored(pairs: Path) -> None:
    write_pair(pairs / "broken")
    (pairs / "broken" / "mixture.wav").write_bytes(b"RIFF no more")
    evaluation = evaluate_model(pairs, Separator(ConstantMask(0.5), STFT))
    assert [song.name for song in evaluation.songs] == ["song"]
    assert any("broken" in problem.path for problem in evaluation.problems)


def test_halves_of_very_different_length_are_named(pairs: Path) -> None:
    write_pair(pairs / "odd")
    write(pairs / "odd" / "vocals.wav", VOCALS[:, : RATE // 4])
    evaluation = evaluate_model(pairs, Separator(ConstantMask(0.5), STFT))
    assert [song.name for song in evaluation.songs] == ["song"]
    (problem,) = evaluation.problems
    assert problem.path == "odd"


def test_songs_are_matched_however_their_accents_are_encoded(tmp_path: Path, stems: Path) -> None:
    write_pair(tmp_path / "pairs" / unicodedata.normalize("NFC", "été"))
    write_estimate(stems / unicodedata.normalize("NFD", "été"))
    assert only_estimate(evaluate_estimates(tmp_path / "pairs", stems)).vocals == math.inf


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    with pytest.raises(InputError, match="pairs"):
        evaluate_model(tmp_path / "pairs", Separator(ConstantMask(0.5), STFT))


def test_a_folder_with_no_estimate_at_all_is_refused_with_the_name_expected(pairs: Path, stems: Path) -> None:
    write_estimate(stems / "another")
    with pytest.raises(InputError, match=r"none of the 1 songs.*named like song"):
        evaluate_estimates(pairs, stems)


def test_a_missing_folder_of_estimates_is_refused(pairs: Path, stems: Path) -> None:
    with pytest.raises(InputError, match="stems"):
        evaluate_estimates(pairs, stems)


def test_progress_counts_songs(pairs: Path) -> None:
    write_pair(pairs / "other")
    seen: list[tuple[int, int]] = []
    separator = Separator(ConstantMask(0.5), STFT)
    evaluate_model(pairs, separator, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_of_a_song_without_vocals_it_is_told_how_much_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "music" / "song.wav", INSTRUMENTAL)
    found = find_songs(instrumentals=[tmp_path / "music"])
    evaluation = evaluate(found, {"estimate": ModelEstimator(Separator(ConstantMask(0.9), STFT))})
    (song,) = evaluation.songs
    # A tenth of the music is taken for vocals.
    assert song.kind == "instrumental"
    assert song.score("estimate", "instrumental", "nsdr_db") == pytest.approx(20, abs=1e-3)
    assert song.scores == {"estimate": {"instrumental": {"nsdr_db": pytest.approx(20, abs=1e-3)}}}
    assert evaluation.num_silent == 0


def test_of_vocals_alone_it_is_told_how_much_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "voices" / "voice.wav", VOCALS)
    found = find_songs(vocals=[tmp_path / "voices"])
    (song,) = evaluate(found, {"estimate": ModelEstimator(Separator(ConstantMask(0.5), STFT))}).songs
    assert song.scores == {"estimate": {"vocals": {"nsdr_db": pytest.approx(6.0206, abs=1e-3)}}}


def test_kinds_of_songs_are_averaged_apart(pairs: Path, tmp_path: Path) -> None:
    write(tmp_path / "music" / "song.wav", INSTRUMENTAL)
    found = find_songs(pairs=[pairs], instrumentals=[tmp_path / "music"])
    evaluation = evaluate(found, {"estimate": ModelEstimator(Separator(ConstantMask(0.9), STFT))})
    assert evaluation.kinds == ("pair", "instrumental")
    assert evaluation.mean("instrumental", "estimate", "instrumental", "nsdr_db") == pytest.approx(20, abs=1e-3)
    assert evaluation.mean("pair", "estimate", "instrumental", "nsdr_db") == pytest.approx(
        10 * math.log10(4 / 0.85), abs=1e-3
    )
    assert evaluation.mean("instrumental", "estimate", "vocals", "nsdr_db") is None


def test_a_stem_that_a_song_has_not_is_not_missed_in_estimates(tmp_path: Path, stems: Path) -> None:
    write(tmp_path / "music" / "song.wav", INSTRUMENTAL)
    write(stems / "song" / "instrumental.wav", INSTRUMENTAL)
    found = find_songs(instrumentals=[tmp_path / "music"])
    evaluation = evaluate(found, {"estimate": FolderEstimator(stems)})
    assert evaluation.problems == ()
    assert evaluation.songs[0].score("estimate", "instrumental", "nsdr_db") == math.inf


def test_all_metrics_are_measured_of_each_system(pairs: Path, stems: Path) -> None:
    write_estimate(stems / "song", vocals=0.9 * VOCALS, instrumental=0.5 * INSTRUMENTAL)
    (song,) = evaluate(
        find_songs(pairs=[pairs]), {"estimate": FolderEstimator(stems)}, settings=EvaluationSettings(metrics=METRICS)
    ).songs
    of_vocals, of_music = song.scores["estimate"]["vocals"], song.scores["estimate"]["instrumental"]
    assert list(of_vocals) == ["nsdr_db", "si_sdr_db", "sdr_db", "isr_db", "sir_db", "sar_db"]
    assert list(of_music) == [*of_vocals, "bass_kept_db", "dropouts", "dropout_seconds"]
    assert of_vocals["sdr_db"] == pytest.approx(20, abs=1e-2)
    assert of_music["isr_db"] == pytest.approx(6.0206, abs=1e-2)
    assert of_music["bass_kept_db"] == pytest.approx(-6.0206, abs=1e-2)  # what a tone that begins abruptly has of it
    assert (of_music["dropouts"], of_music["dropout_seconds"]) == (0, 0.0)
    assert list(song.scores) == ["estimate", "mixture", "ideal_mask"]
    assert all(list(stems["instrumental"]) == list(of_music) for stems in song.scores.values())


def test_a_pair_with_a_silent_stem_has_no_bsseval_of_either(tmp_path: Path) -> None:
    write_pair(tmp_path / "pairs" / "song", vocals=np.zeros_like(VOCALS))
    (song,) = evaluate(
        find_songs(pairs=[tmp_path / "pairs"]),
        {"estimate": ModelEstimator(Separator(ConstantMask(0.9), STFT))},
        settings=EvaluationSettings(metrics=("nsdr", "bsseval")),
    ).songs
    assert song.score("estimate", "instrumental", "nsdr_db") == pytest.approx(20, abs=1e-3)
    assert song.score("estimate", "instrumental", "sdr_db") is None


def test_two_systems_are_scored_side_by_side(pairs: Path, stems: Path) -> None:
    write_estimate(stems / "song")
    network = ModelEstimator(Separator(ConstantMask(0.75), STFT))
    evaluation = evaluate(find_songs(pairs=[pairs]), {"estimate": network, "against": FolderEstimator(stems)})
    (song,) = evaluation.songs
    assert nsdr_of(song, "against") == StemScores(vocals=math.inf, instrumental=math.inf)
    assert nsdr_of(song, "estimate").vocals == pytest.approx(10 * math.log10(16 / 13), abs=1e-3)


def test_musdb18_in_wav_is_a_folder_of_pairs(tmp_path: Path) -> None:
    drums, bass, other = tone(200), tone(60), tone(500)
    folder = tmp_path / "musdb18hq" / "test" / "Artist - Title"
    music = drums + bass + other
    for name, samples in {"drums": drums, "bass": bass, "other": other, "vocals": VOCALS}.items():
        write(folder / f"{name}.wav", samples)
    write(folder / "mixture.wav", VOCALS + music)
    write(tmp_path / "stems" / "test" / "Artist - Title" / "accompaniment.wav", np.float32(0.9) * music)
    write(tmp_path / "stems" / "test" / "Artist - Title" / "vocals.wav", VOCALS)
    scores = only_estimate(evaluate_estimates(tmp_path / "musdb18hq", tmp_path / "stems"))
    assert scores.instrumental == pytest.approx(20, abs=1e-3)


def test_several_songs_at_a_time_give_the_same_scores_in_the_same_order(pairs: Path) -> None:
    for number in range(4):
        write_pair(pairs / f"song {number}", vocals=np.float32(0.2 * (number + 1)) * VOCALS)
    found = find_songs(pairs=[pairs])
    estimators: dict[System, ModelEstimator] = {"estimate": ModelEstimator(Separator(ConstantMask(0.5), STFT))}
    one = evaluate(found, estimators)
    several = evaluate(found, estimators, settings=EvaluationSettings(num_jobs=3))
    assert several.songs == one.songs
    assert len(one.songs) == 5


def test_no_song_begins_after_an_error_that_is_no_songs_fault(pairs: Path) -> None:
    for number in range(20):
        write_pair(pairs / f"song {number}")
    begun: list[str] = []

    class Broken(ConstantMask):
        def forward(self, x: Tensor) -> Tensor:
            begun.append(f"{threading.current_thread().name}: {x.shape}")
            raise RuntimeError("broken network")

    with pytest.raises(RuntimeError, match="broken network"):
        evaluate_model(pairs, Separator(Broken(0.5), STFT))
    assert len(begun) < 20


def test_a_run_or_a_file_is_a_model_and_a_folder_of_songs_is_not(tmp_path: Path, pairs: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").touch()
    assert is_model(tmp_path / "run")
    assert is_model(tmp_path / "run" / "best.safetensors")
    assert not is_model(pairs)


def test_less_than_one_song_at_a_time_is_refused() -> None:
    with pytest.raises(InputError, match="at least one song"):
        EvaluationSettings(num_jobs=0)
