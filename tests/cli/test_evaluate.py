"""`vrtool evaluate` through its entry point."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from vrtool.audio.waveform import Waveform, write_audio

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
    assert values["songs"][0]["estimate"]["vocals"] == pytest.approx(20, abs=0.01)
    assert values["songs"][0]["estimate"]["instrumental"] is None
    assert len(values["problems"]) == 1
    assert "instrumental" in done.stderr


@pytest.mark.parametrize("option", [("--device", "cpu"), ("--precision", "bfloat16")])
def test_options_of_a_network_mean_nothing_to_estimates(vrtool: Command, pairs: Path, option: tuple[str, str]) -> None:
    done = vrtool("evaluate", pairs, "--estimates", pairs, *option)
    assert done.returncode == 2
    assert "only for --model" in done.stderr


@pytest.mark.parametrize("options", [(), ("--model", "a", "--estimates", "b")])
def test_exactly_one_of_model_and_estimates_is_taken(vrtool: Command, pairs: Path, options: tuple[str, ...]) -> None:
    done = vrtool("evaluate", pairs, *options)
    assert done.returncode == 2
    assert "--model RUN or --estimates DIR" in done.stderr


def test_a_folder_that_is_not_there_is_the_users_mistake(vrtool: Command, tmp_path: Path) -> None:
    (tmp_path / "stems").mkdir()
    done = vrtool("evaluate", tmp_path / "nowhere", "--estimates", tmp_path / "stems")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
