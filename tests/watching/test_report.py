from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from vrtool.audio.waveform import read_audio
from vrtool.dataset.cache import Cache
from vrtool.errors import CacheError, InputError
from vrtool.training.run_folder import RunFolder
from vrtool.watching.report import write_report

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page's tags, its text, and whether every tag that was opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, name: str) -> list[dict[str, Any]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="session")
def page_text(watched_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("report") / "report.html"
    record = write_report(watched_run, device="cpu", output=output)
    assert record.notes == ()
    return output.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def page(page_text: str) -> Page:
    return Page(page_text)


def test_the_page_is_well_formed_and_needs_nothing_from_outside(page: Page, page_text: str) -> None:
    assert page.open == []
    addresses = [attributes.get(name) for _, attributes in page.tags for name in ("src", "href") if name in attributes]
    assert addresses
    assert all(address is not None and address.startswith("data:") for address in addresses)
    assert not re.search(r"https?:|@import|url\(", page_text)
    assert not page.named("script") + page.named("link") + page.named("iframe")


def test_foreign_names_and_the_recipe_are_shown_as_they_are(page: Page, foreign_name: str) -> None:
    assert foreign_name in page.text
    assert "my <run>" in page.text
    assert 'num_steps = 4  # <i>"few"</i> & quick' in page.text
    assert not page.named("i")


def test_each_song_has_three_players_and_pictures(page: Page, foreign_name: str, tmp_path: Path) -> None:
    players, pictures = page.named("audio"), page.named("img")
    assert len(players) == len(pictures) == 6
    assert {player["aria-label"] for player in players} >= {
        f"{part} of {foreign_name}" for part in ("mixture", "vocals", "instrumental")
    }
    for player in players:
        (tmp_path / "heard.mp3").write_bytes(base64.b64decode(player["src"].partition(",")[2]))
        assert read_audio(tmp_path / "heard.mp3").duration_seconds == pytest.approx(10.0, abs=0.5)
    assert all(base64.b64decode(picture["src"].partition(",")[2]).startswith(b"\x89PNG") for picture in pictures)


def test_curves_scores_and_versions_are_there(page: Page) -> None:
    assert len(page.named("svg")) == 6
    assert len(page.named("polyline")) == 10
    assert "music0 +" in page.text
    for words in ("Finished after 4 steps.", "frame_transformer", "h5py", "torch", "python", "1 session"):
        assert words in page.text


def test_a_run_whose_cache_is_gone_has_a_report_that_says_how_to_hear_songs(
    watched_run: RunFolder, watched_cache: Cache, tmp_path: Path
) -> None:
    folder = RunFolder(path=Path(shutil.copytree(watched_run.path, tmp_path / "moved")))
    metrics = folder.metrics.read_text(encoding="utf-8").replace(watched_cache.path.name, "gone")
    folder.metrics.write_text(metrics, encoding="utf-8")
    record = write_report(folder, device="cpu", output=tmp_path / "page.html")
    assert "--cache CACHE" in record.notes[0]
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "--cache CACHE" in page.text
    assert not page.named("audio")
    assert not write_report(folder, cache=watched_cache.path, device="cpu", output=tmp_path / "page.html").notes


def test_skipped_steps_are_counted_and_told_with_their_files(watched_run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(watched_run.path, tmp_path / "run")
    folder = RunFolder(path=tmp_path / "run")
    folder.append_metrics(
        {"kind": "bad_step", "step": 4, "time": None, "reason": "the loss <is> nan", "file": "bad-steps/4.json"}
    )
    folder.append_metrics({"kind": "bad_step", "step": 5, "reason": "the norm is inf", "file": None})
    write_report(folder, device="cpu", output=tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.open == []
    for words in ("Skipped steps", "the loss <is> nan", "bad-steps/4.json", "the norm is inf"):
        assert words in page.text
    assert re.search(r"skipped steps\s*2", page.text)


def test_a_run_without_a_checkpoint_yet_has_a_report(watched_run: RunFolder, tmp_path: Path) -> None:
    for path in (watched_run.recipe, watched_run.metrics):
        shutil.copy(path, tmp_path)
    record = write_report(RunFolder(path=tmp_path), device="cpu", output=tmp_path / "page.html")
    assert record.model is None
    assert "no network" in record.notes[0]


def test_a_run_of_before_sessions_were_logged_has_a_report(watched_run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(watched_run.path, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    older = [{**line, "time": None, "songs": None} for line in lines if line["kind"] != "session"]
    known = [{name: value for name, value in line.items() if value is not None} for line in older]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in known), encoding="utf-8")
    write_report(RunFolder(path=tmp_path / "run"), device="cpu", output=tmp_path / "page.html")
    assert "</html>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_is_no_run_or_no_cache_is_refused(watched_run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder of a run"):
        write_report(RunFolder(path=tmp_path), device="cpu", output=tmp_path / "page.html")
    with pytest.raises(CacheError):
        write_report(watched_run, cache=tmp_path, device="cpu", output=tmp_path / "page.html")
    assert not any(tmp_path.iterdir())


def test_the_command_writes_the_page_where_it_is_told(
    watched_run: RunFolder, vrtool: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    done = vrtool("report", watched_run.path, "--output", tmp_path / "page.html", "--device", "cpu")
    assert (done.returncode, "page.html: open it in a browser" in done.stdout) == (0, True), done.stderr
    assert "</html>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert vrtool("report", tmp_path).returncode == 2
