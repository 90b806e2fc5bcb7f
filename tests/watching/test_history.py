from __future__ import annotations

from pathlib import Path

from vrtool.watching.history import points, read_history

LINES = """\
{"kind": "session", "step": 0, "time": "2026-01-01T00:00:00+00:00"}
{"kind": "training", "step": 20, "loss": 0.5}
{"kind": "training", "step": 40, "loss": null}
{"kind": "validation", "step": 40, "loss": 0.4}
{"kind": "from the future", "step": 41}
{"kind": "validation", "step": 80, "loss": 0.6}
{"kind": "validation", "step": 120, "loss": null}
{"kind": "bad_step", "step": 121, "reason": "nan", "file": null}
[1, 2]
{"kind": "training", "st"""


def test_lines_are_told_apart_by_kind_and_one_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINES, encoding="utf-8")
    history = read_history(tmp_path / "metrics.jsonl")
    assert [len(lines) for lines in (history.sessions, history.training, history.validation)] == [1, 2, 3]
    assert history.last_step == 120
    assert [line["reason"] for line in history.bad_steps] == ["nan"]
    assert history.best_validation is not None
    assert history.best_validation["step"] == 40


def test_what_diverged_is_no_point_of_a_curve(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINES, encoding="utf-8")
    assert points(read_history(tmp_path / "metrics.jsonl").training, "loss", factor=100.0) == [(20.0, 50.0)]


def test_a_run_without_metrics_has_an_empty_history(tmp_path: Path) -> None:
    history = read_history(tmp_path / "metrics.jsonl")
    assert (history.last_step, history.best_validation) == (0, None)
