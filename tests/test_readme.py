"""The README's Python runs as it stands there."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from vrtool.audio.waveform import FloatArray, Waveform, read_audio, write_audio

README = Path(__file__).parent.parent / "README.md"


def python_blocks() -> list[str]:
    """Return the indented blocks of the section on Python."""
    section = README.read_text(encoding="utf-8").split("\n## Python\n")[1].split("\n## ")[0]
    blocks: list[list[str]] = [[]]
    for line in section.splitlines():
        if line.startswith("    ") or (not line and blocks[-1]):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [textwrap.dedent("\n".join(block)) for block in blocks if block]


def test_the_examples_of_the_readme_run_in_their_order(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_signal: Callable[..., FloatArray],
) -> None:
    for name in ("song.flac", "other.wav"):
        write_audio(tmp_path / name, Waveform(samples=make_signal(0), sample_rate=8000))
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks()
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"README block {number}", "exec"), names)
    assert sorted(path.name for path in (tmp_path / "stems/song").iterdir()) == ["instrumental.flac", "vocals.flac"]
    assert (tmp_path / "more/other/vocals.wav").exists()
    assert read_audio(tmp_path / "karaoke.wav").num_samples == 16_000
