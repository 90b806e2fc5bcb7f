"""Everything that a report shows, collected from a run's folder and the cache that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vrtool.dataset.cache import Cache, open_cache
from vrtool.errors import CheckpointError, InputError, VrtoolError
from vrtool.model.checkpoint import checkpoint_model, find_checkpoint, load_checkpoint
from vrtool.separation.separator import Separator
from vrtool.training.run_folder import RunFolder
from vrtool.watching.excerpts import Separated, choose_excerpts, separate_excerpt
from vrtool.watching.history import History, read_history


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The network that a run offers: its file, architecture, size, and how far its training had come."""

    file: str
    file_bytes: int
    architecture: str
    num_parameters: int
    progress: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as its report tells it; `notes` say what is not in it and how to get it."""

    name: str
    recipe: str
    history: History
    model: ModelFacts | None = None
    songs: tuple[Separated, ...] = ()
    notes: tuple[str, ...] = field(default=())


def collect_record(folder: RunFolder, cache: Path | None, *, device: str) -> RunRecord:
    """Return what there is to tell of a run, its songs separated on `device` by its best network.

    The cache is the one that was trained on unless another is given. What is missing becomes a note, but InputError is
    raised if `folder` is not that of a run, and of a cache that was given and cannot be used.
    """
    history = read_history(folder.metrics)
    if not folder.recipe.is_file() or not (history.sessions or history.training or history.validation):
        raise InputError(
            f"{folder.path}: expected the folder of a run, with {folder.recipe.name} and {folder.metrics.name}, "
            "found none; make one with vrtool train"
        )
    notes: list[str] = []
    separator, model = _load_network(folder, device, notes)
    songs: tuple[Separated, ...] = ()
    if separator is not None:
        data = _find_cache(history, cache, notes)
        songs = _separate_songs(separator, data, notes) if data is not None else ()
    return RunRecord(
        name=folder.path.absolute().name,
        recipe=folder.recipe.read_text(encoding="utf-8", errors="replace"),
        history=history,
        model=model,
        songs=songs,
        notes=tuple(notes),
    )


def _load_network(folder: RunFolder, device: str, notes: list[str]) -> tuple[Separator | None, ModelFacts | None]:
    """Return the best network of a run and the facts about it, or nothing and a note."""
    try:
        path = find_checkpoint(folder.path)
        checkpoint = load_checkpoint(path)
    except CheckpointError as error:
        notes.append(f"There is no network to listen to yet: {error}.")
        return None, None
    network = checkpoint_model(checkpoint)
    facts = ModelFacts(
        file=path.name,
        file_bytes=path.stat().st_size,
        architecture=checkpoint.model.architecture,
        num_parameters=sum(weight.numel() for weight in network.parameters()),
        progress=checkpoint.progress,
    )
    return Separator(network, checkpoint.stft, device=device), facts


def _find_cache(history: History, given: Path | None, notes: list[str]) -> Cache | None:
    """Return the cache that was given, or that the run remembers, or a note."""
    if given is not None:
        return open_cache(given)
    remembered = next((line["cache"] for line in reversed(history.sessions) if "cache" in line), None)
    try:
        if remembered is None:
            raise InputError("the run does not say where its cache is")
        return open_cache(Path(remembered))
    except (VrtoolError, OSError) as error:
        notes.append(f"There are no songs to listen to: {error}. Name the cache with vrtool report RUN --cache CACHE.")
        return None


def _separate_songs(separator: Separator, cache: Cache, notes: list[str]) -> tuple[Separated, ...]:
    if cache.stft != separator.stft:
        notes.append(f"There are no songs to listen to: {cache.path} has other spectrograms than the run was made on.")
        return ()
    excerpts = choose_excerpts(cache)
    if not excerpts:
        notes.append(f"There are no songs to listen to: {cache.path} keeps none with both voice and music.")
    return tuple(separate_excerpt(separator, excerpt) for excerpt in excerpts)
