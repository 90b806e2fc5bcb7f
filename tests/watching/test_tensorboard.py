from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vrtool.dataset.cache import Cache
from vrtool.errors import InputError
from vrtool.model.checkpoint import load_checkpoint
from vrtool.training.run_folder import RunFolder
from vrtool.training.watcher import Watcher
from vrtool.watching.tensorboard import TensorBoardLog, open_writer, require_tensorboard


class Events:
    """Remembers what it is given, in place of a SummaryWriter."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []
        self.sounds: list[tuple[str, int]] = []
        self.images: list[tuple[str, int]] = []
        self.opened: list[tuple[Path, int]] = []
        self.is_closed = False

    def open(self, folder: Path, step: int) -> Events:
        self.opened.append((folder, step))
        return self

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        assert np.isfinite(scalar_value)
        self.scalars.append((tag, scalar_value, global_step))

    def add_audio(self, tag: str, snd_tensor: Any, global_step: int, sample_rate: int) -> None:
        assert (snd_tensor.shape[0], sample_rate) == (1, 8000)
        assert 0 < np.abs(snd_tensor).max() <= 1
        self.sounds.append((tag, global_step))

    def add_image(self, tag: str, img_tensor: Any, global_step: int, *, dataformats: str) -> None:
        assert (img_tensor.shape[2], img_tensor.dtype, dataformats) == (3, np.uint8, "HWC")
        self.images.append((tag, global_step))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


def test_a_run_is_logged_beside_its_own_watcher_and_ends_with_the_same_weights(
    train_watched: Callable[..., RunFolder], watched_cache: Cache, tmp_path: Path
) -> None:
    events, seen = Events(), []
    log = TensorBoardLog(tmp_path / "tensorboard", watched_cache, open_writer=events.open)
    own = Watcher(on_step=lambda report: seen.append(report.step), on_network=lambda step, _: seen.append(-step))
    logged = train_watched(tmp_path / "logged", log.beside(own))
    plain = train_watched(tmp_path / "plain")
    log.close()
    assert events.is_closed
    assert seen == [1, -1, 2, -2, 3, -3, 4, -4]
    assert events.opened == [(tmp_path / "tensorboard", 0)]
    ends = [load_checkpoint(folder.last, with_training_state=True) for folder in (logged, plain)]
    weights, others = ({**end.weights, **end.training_state} for end in ends)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    tags = {tag for tag, _, _ in events.scalars}
    assert {"training/loss", "training/learning rate", "training/gradient norm", "validation/nSDR vocals"} <= tags
    assert "nSDR instrumental/instrumental/music0" in tags
    # The mixture stays the same: once will do. Of four validations, the 1st, 2nd and 4th are heard.
    heard = {(tag.rpartition("/")[2], step) for tag, step in events.sounds}
    assert heard == {("mixture", 1)} | {(part, step) for part in ("vocals", "instrumental") for step in (1, 2, 4)}
    assert events.images == events.sounds


class FullDisk(Events):
    """Has no room for what comes at steps 2 and 3."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        if global_step in (2, 3):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().add_scalar(tag, scalar_value, global_step)


def test_a_full_disk_ends_the_log_and_not_the_run_and_is_told_once(
    train_watched: Callable[..., RunFolder], watched_cache: Cache, tmp_path: Path
) -> None:
    events, notices = FullDisk(), list[str]()
    log = TensorBoardLog(tmp_path / "tensorboard", watched_cache, open_writer=events.open)
    folder = train_watched(tmp_path / "run", log.beside(Watcher(on_notice=notices.append)))
    assert load_checkpoint(folder.last).progress["step"] == 4
    assert [notice.partition(";")[0] for notice in notices] == [f"{tmp_path / 'tensorboard'}: No space left on device"]
    assert "from step 2 on is lost" in notices[0]
    assert {step for tag, _, step in events.scalars if tag == "validation/loss"} == {1, 4}
    assert [step for _, step in events.opened] == [0, 2, 3]


def test_a_missing_tensorboard_is_a_sentence_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r'pip install "vrtool\[tensorboard\]"'):
        require_tensorboard()


@pytest.mark.filterwarnings("ignore")  # other packages' deprecations
def test_tensorboard_reads_what_is_written(
    train_watched: Callable[..., RunFolder], watched_cache: Cache, tmp_path: Path
) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TensorBoardLog(tmp_path / "tensorboard", watched_cache, open_writer=open_writer)
    train_watched(tmp_path / "run", log.beside(Watcher()))
    log.close()
    read = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [event.step for event in read.Scalars("validation/loss")] == [1, 2, 3, 4]
    assert any(tag.endswith("/vocals") for tag in read.Tags()["audio"])
    assert any(tag.endswith("/vocals") for tag in read.Tags()["images"])
