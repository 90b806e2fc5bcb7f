"""`vrtool evaluate` through its entry point."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from vrtool.audio.waveform import Waveform, write_audio
from vrtool.model import ModelConfig

Command = Callable[..., CompletedProcess[str]]


def write_stems(folder: Path, *, vocals_level: float = 1.0, mixture: bool = False) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    vocals, instrumental = rng.standard_normal((2, 1, 8000)).astype(np.float32) * np.float32(0.1)
    files = {"vocals": np.float32(vocals_level) * vocals, "instrumental": instrumental}
    if mixture:
        files["mixture"] = vocals + instrumental
    for name, samples in files.items():
        write_audio(folder / f"{name}.wav", Waveform(samples=samples, sample_rate=8000))


def write_song(folder: Path) -> None:
    """Write a song in stereo, its sides unlike, long enough for more than one of a network's chunks."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    vocals, instrumental = rng.standard_normal((2, 2, 150_000)).astype(np.float32) * np.float32(0.1)
    files = {"vocals": vocals * np.array([[1.0], [0.3]], np.float32), "instrumental": instrumental}
    files["mixture"] = files["vocals"] + files["instrumental"]
    for name, samples in files.items():
        write_audio(folder / f"{name}.wav", Waveform(samples=samples, sample_rate=8000))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_stems(tmp_path / "pairs" / "song [live]", mixture=True)
    return tmp_path / "pairs"


def test_the_table_has_a_row_per_song_and_mean_and_median(vrtool: Command, pairs: Path, tmp_path: Path) -> None:
    write_stems(tmp_path / "stems" / "song [live]", vocals_level=0.9)
    done = vrtool("evaluate", pairs, "--estimates", tmp_path / "stems")
    assert done.returncode == 0
    for word in ("song [live]", "mean", "median", "20.0", "perfect", "ideal mask"):
        assert word in done.stdout


def test_json_is_one_strict_document_and_alone_on_standard_output(vrtool: Command, pairs: Path, tmp_path: Path) -> None:
    write_stems(tmp_path / "stems" / "song [live]", vocals_level=0.9)
    (tmp_path / "stems" / "song [live]" / "instrumental.wav").unlink()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    done = vrtool("evaluate", pairs, "--estimates", tmp_path / "stems", "--json")
    assert done.returncode == 1
    values = json.loads(done.stdout, parse_constant=refuse)
    assert values["songs"][0]["estimate"]["vocals"]["nsdr_db"] == pytest.approx(20, abs=0.01)
    assert values["songs"][0]["estimate"]["instrumental"]["nsdr_db"] is None
    assert len(values["problems"]) == 1
    assert "instrumental" in done.stderr


@pytest.mark.parametrize(
    "option",
    [
        ("--device", "auto"),
        ("--precision", "bfloat16"),
        ("--shifts", 1),
        ("--channel-swap-average",),
        ("--postprocess",),
    ],
)
def test_options_of_a_network_mean_nothing_to_estimates(
    vrtool: Command, pairs: Path, option: tuple[object, ...]
) -> None:
    done = vrtool("evaluate", pairs, "--estimates", pairs, *option)
    assert done.returncode == 2
    assert f"{option[0]}: only for the network of --model" in done.stderr


def test_what_makes_stems_better_is_not_for_the_network_that_estimates_are_compared_with(
    vrtool: Command, pairs: Path, stems: Path, networks: list[Path]
) -> None:
    words = ("evaluate", pairs, "--estimates", stems, "--against", networks[0])
    assert vrtool(*words, "--device", "cpu").returncode == 0
    done = vrtool(*words, "--device", "cpu", "--shifts", 2)
    assert done.returncode == 2
    assert "--shifts: only for the network of --model" in done.stderr


@pytest.fixture
def networks(tmp_path: Path, save_network: Callable[..., Path]) -> list[Path]:
    """Two small networks that were never trained."""
    small = ModelConfig(n_fft=256, channels=1, num_bands=4, feedforward_dim=8, num_encoders=0, num_decoders=0)
    return [
        save_network(tmp_path / f"of_{channels}.safetensors", replace(small, channels=channels)) for channels in (1, 2)
    ]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--model", "of_2.safetensors"], "of_1.safetensors + of_2.safetensors"),
        (["--shifts", 2], "of_1.safetensors --shifts 2"),
        (["--channel-swap-average"], "of_1.safetensors --channel-swap-average"),
        (["--shifts", 2, "--postprocess"], "of_1.safetensors --shifts 2 --postprocess"),
    ],
)
def test_a_network_is_scored_as_the_same_options_let_it_separate(
    vrtool: Command,
    networks: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[object],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_song(tmp_path / "pairs" / "song")
    model = ("--model", networks[0].name, *words)
    done = vrtool("separate", "pairs/song/mixture.wav", "-o", "stems", "--subtype", "32f", *model)
    assert done.returncode == 0, done.stderr
    (tmp_path / "stems" / "mixture").rename(tmp_path / "stems" / "song")
    done = vrtool("evaluate", "pairs", *model, "--against", "stems", "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["systems"] == {"estimate": name, "against": "stems"}
    (song,) = values["songs"]
    for stem in ("vocals", "instrumental"):
        assert song["estimate"][stem]["nsdr_db"] == pytest.approx(song["against"][stem]["nsdr_db"], abs=1e-4)


def test_what_makes_stems_better_can_be_compared_with_the_network_as_it_is(
    vrtool: Command, networks: list[Path], tmp_path: Path
) -> None:
    write_song(tmp_path / "pairs" / "song")
    done = vrtool(
        "evaluate", tmp_path / "pairs", "--model", networks[0], "--channel-swap-average", "--against", networks[0],
        "--json",
    )  # fmt: skip
    values = json.loads(done.stdout)
    assert values["systems"]["estimate"] == f"{values['systems']['against']} --channel-swap-average"
    (song,) = values["songs"]
    assert song["estimate"]["vocals"]["nsdr_db"] != song["against"]["vocals"]["nsdr_db"]


def test_model_and_estimates_together_are_refused(vrtool: Command, pairs: Path) -> None:
    done = vrtool("evaluate", pairs, "--model", "a", "--estimates", "b")
    assert done.returncode == 2
    assert "--model RUN or --estimates DIR" in done.stderr


def test_what_comes_with_vrtool_is_scored_where_nothing_is_named(vrtool: Command, tmp_path: Path) -> None:
    write_song(tmp_path / "pairs" / "song")
    done = vrtool("evaluate", tmp_path / "pairs", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["systems"] == {"estimate": "builtin"}


def test_a_folder_that_is_not_there_is_the_users_mistake(vrtool: Command, tmp_path: Path) -> None:
    (tmp_path / "stems").mkdir()
    done = vrtool("evaluate", tmp_path / "nowhere", "--estimates", tmp_path / "stems")
    assert done.returncode == 2
    assert "nowhere" in done.stderr


@pytest.fixture
def stems(tmp_path: Path) -> Path:
    write_stems(tmp_path / "stems" / "song [live]", vocals_level=0.9)
    return tmp_path / "stems"


def test_all_metrics_are_shown_when_asked_for(vrtool: Command, pairs: Path, stems: Path) -> None:
    done = vrtool("evaluate", pairs, "--estimates", stems, "--metrics", "all")
    assert done.returncode == 0
    for words in (
        "nSDR in dB",
        "SI-SDR in dB",
        "BSSEval v4",
        "SDR",
        "SAR",
        "150 Hz",
        "drop-outs",
        "ideal mask, median",
    ):
        assert words in done.stdout


def test_an_unknown_metric_is_the_users_mistake(vrtool: Command, pairs: Path, stems: Path) -> None:
    done = vrtool("evaluate", pairs, "--estimates", stems, "--metrics", "pesq")
    assert done.returncode == 2
    assert "found pesq" in done.stderr


def test_two_systems_are_compared_with_a_sign_test(vrtool: Command, pairs: Path, stems: Path, tmp_path: Path) -> None:
    write_stems(tmp_path / "worse" / "song [live]", vocals_level=0.5)
    done = vrtool("evaluate", pairs, "--estimates", stems, "--against", tmp_path / "worse")
    assert done.returncode == 0
    for words in ("A: stems, B: worse", "mixture, median", "A better", "20.0", "6.0", "p: exact"):
        assert words in done.stdout
    values = json.loads(
        vrtool("evaluate", pairs, "--estimates", stems, "--against", tmp_path / "worse", "--json").stdout
    )
    assert values["systems"] == {"estimate": "stems", "against": "worse"}
    of_vocals, of_music = values["sign_tests"]
    assert (of_vocals["estimate_better"], of_vocals["against_better"], of_vocals["p_value"]) == (1, 0, 1.0)
    assert of_music["ties"] == 1


def test_systems_whose_folders_are_of_one_name_are_told_apart(vrtool: Command, pairs: Path, stems: Path) -> None:
    done = vrtool("evaluate", pairs, "--estimates", stems, "--against", stems, "--json")
    assert json.loads(done.stdout)["systems"] == {"estimate": str(stems), "against": str(stems)}


def test_songs_without_vocals_and_vocals_alone_have_tables_of_their_own(vrtool: Command, tmp_path: Path) -> None:
    for folder in ("music", "voices"):
        write_stems(tmp_path / folder)
    for name in ("vocals", "instrumental"):
        write_stems(tmp_path / "stems" / name)
    options = ("--instrumentals", tmp_path / "music", "--vocals", tmp_path / "voices")
    done = vrtool("evaluate", *options, "--estimates", tmp_path / "stems")
    assert done.returncode == 0
    assert "songs without vocals" in done.stdout
    assert "vocals alone" in done.stdout
    assert "mixture" not in done.stdout


def test_csv_is_written_beside_the_table(vrtool: Command, pairs: Path, stems: Path, tmp_path: Path) -> None:
    done = vrtool("evaluate", pairs, "--estimates", stems, "--csv", tmp_path / "scores.csv")
    assert "nSDR in dB" in done.stdout
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["system"], row["stem"]) for row in rows] == [
        (system, stem) for system in ("stems", "mixture", "ideal_mask") for stem in ("vocals", "instrumental")
    ]
    assert float(rows[0]["nsdr_db"]) == pytest.approx(20, abs=0.01)


def test_a_folder_for_csv_that_is_not_there_is_told_before_any_work(vrtool: Command, pairs: Path, stems: Path) -> None:
    done = vrtool("evaluate", pairs, "--estimates", stems, "--csv", stems / "no folder" / "scores.csv")
    assert done.returncode == 2
    assert "no folder" in done.stderr


def test_no_songs_at_all_is_the_users_mistake(vrtool: Command, stems: Path) -> None:
    done = vrtool("evaluate", "--estimates", stems)
    assert done.returncode == 2
    assert "--instrumentals DIR" in done.stderr
