"""`vrtool evaluate` through its entry point."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vrtool.audio.waveform import Waveform, write_audio
from vrtool.cli import main

Run = Callable[..., int]


@pytest.fixture
def vrtool(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line and returns its exit code."""

    def run(*words: str | Path) -> int:
        monkeypatch.setattr("sys.argv", ["vrtool", *map(str, words)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        return int(exit_info.value.code or 0)

    return run


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


def test_the_table_has_a_row_per_song_and_mean_and_median(
    vrtool: Run, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stems(tmp_path / "stems" / "song [live]", vocals_level=0.9)
    assert vrtool("evaluate", pairs, "--estimates", tmp_path / "stems") == 0
    said = capsys.readouterr().out
    for word in ("song [live]", "mean", "median", "20.0", "perfect", "ideal mask"):
        assert word in said


def test_json_is_one_strict_document_and_alone_on_standard_output(
    vrtool: Run, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stems(tmp_path / "stems" / "song [live]", vocals_level=0.9)
    (tmp_path / "stems" / "song [live]" / "instrumental.wav").unlink()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert vrtool("evaluate", pairs, "--estimates", tmp_path / "stems", "--json") == 1
    captured = capsys.readouterr()
    values = json.loads(captured.out, parse_constant=refuse)
    assert values["songs"][0]["estimate"]["vocals"] == pytest.approx(20, abs=0.01)
    assert values["songs"][0]["estimate"]["instrumental"] is None
    assert len(values["problems"]) == 1
    assert "instrumental" in captured.err


@pytest.mark.parametrize("options", [(), ("--model", "a", "--estimates", "b")])
def test_exactly_one_of_model_and_estimates_is_taken(
    vrtool: Run, pairs: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert vrtool("evaluate", pairs, *options) == 2
    assert "--model RUN or --estimates DIR" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_the_users_mistake(
    vrtool: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stems").mkdir()
    assert vrtool("evaluate", tmp_path / "nowhere", "--estimates", tmp_path / "stems") == 2
    assert "nowhere" in capsys.readouterr().err
