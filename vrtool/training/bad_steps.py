"""Steps that were skipped: what each was made of, in a file from which `replay.py` makes it again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, Self, get_args

from vrtool.dataset.cache import Cache
from vrtool.dataset.examples import Content, TrainingBatches, batch_sha256
from vrtool.dataset.header import TrackHeader
from vrtool.dataset.plan import ExamplePlan
from vrtool.errors import InputError, JobError
from vrtool.model.checkpoint import Checkpoint
from vrtool.training.config import TrainingConfig
from vrtool.training.run_folder import RunFolder
from vrtool.training.saving import Saver
from vrtool.training.session import timestamp

MAX_BAD_STEPS = 3
"""Steps in a row without finite gradients after which a run has no future."""
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BadExample:
    """An example by its number in the run, its place in an epoch, and its plan."""

    number: int
    epoch: int
    index: int
    plan: ExamplePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class BadBatch:
    """One pass of a step: its loss, None if nobody knows it, its examples and the SHA-256 of the batch of them."""

    number: int
    loss: float | None
    sha256: str
    examples: tuple[BadExample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackOrigin:
    """Where a track of the examples came from: its file in the cache, the CRC-32 there, and its sources by role."""

    file: str
    crc32: dict[str, int]
    sources: dict[str, list[str]]

    @classmethod
    def of(cls, header: TrackHeader, file: str) -> Self:
        """Return the origin of a track of a cache."""
        sources: dict[str, list[str]] = {}
        for source in header.sources:
            sources.setdefault(source.role, []).append(source.path)
        return cls(file=file, crc32={role: stored.crc32 for role, stored in header.storage.items()}, sources=sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadStep:
    """A step without finite gradients; `tracks` has the origins of all tracks of its plans, by key."""

    step: int
    time: str
    reason: str
    gradient_norm: float | None
    learning_rate: float
    precision: str
    seed: int
    content: Content
    cache: str
    recipe: str
    batches: tuple[BadBatch, ...]
    tracks: dict[str, TrackOrigin]

    def to_json(self) -> dict[str, Any]:
        """Return the step as JSON-ready values, the inverse of `read_bad_step`."""
        values = {"format_version": FORMAT_VERSION, **asdict(self)}
        values["gradient_norm"] = _in_words(self.gradient_norm)
        for batch, entry in zip(self.batches, values["batches"], strict=True):
            entry["loss"] = _in_words(batch.loss)
        return values


def read_bad_step(path: Path) -> BadStep:
    """Return the step that is told of in a file; raises InputError if it is not one that a run wrote."""
    if not path.is_file():
        raise InputError(
            f"{path}: expected a file of a run's bad-steps, found {'a folder' if path.is_dir() else 'none'}"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {values['format_version']}, expected {FORMAT_VERSION}")
        step = BadStep(
            **{
                **{name: value for name, value in values.items() if name != "format_version"},
                "gradient_norm": _in_numbers(values["gradient_norm"]),
                "batches": tuple(_batch(entry, str(path)) for entry in values["batches"]),
                "tracks": {key: TrackOrigin(**origin) for key, origin in values["tracks"].items()},
            }
        )
        _require_types(step)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: expected a file that vrtool train wrote into a run's bad-steps, found another thing "
            f"({type(error).__name__}: {error})"
        ) from error
    return step


def _require_types(step: BadStep) -> None:
    """Raise TypeError unless texts are texts, numbers are whole, and each batch has examples of one length."""
    texts: list[object] = [step.cache, step.recipe, step.reason, step.time, step.precision]
    for origin in step.tracks.values():
        texts += [origin.file, *origin.crc32, *(path for paths in origin.sources.values() for path in paths)]
    examples = [example for batch in step.batches for example in batch.examples]
    numbers = [step.step, *(batch.number for batch in step.batches)]
    numbers += [number for example in examples for number in (example.number, example.epoch, example.index)]
    if not all(isinstance(text, str) for text in texts) or any(type(number) is not int for number in numbers):
        raise TypeError("texts or numbers that are none")
    if step.content not in get_args(Content) or type(step.learning_rate) is not float:
        raise TypeError(f"content {step.content!r} at a learning rate of {step.learning_rate!r}")
    if not step.batches or any(len({one.plan.num_frames for one in batch.examples}) != 1 for batch in step.batches):
        raise TypeError("no batch, or one without examples of one length")


def _batch(values: Any, origin: str) -> BadBatch:
    examples = tuple(
        BadExample(**{**entry, "plan": ExamplePlan.from_json(entry["plan"], origin=f"{origin}, {entry['number']}")})
        for entry in values["examples"]
    )
    return BadBatch(**{**values, "loss": _in_numbers(values["loss"]), "examples": examples})


def _in_words(number: float | None) -> float | str | None:
    """Return a number that JSON may hold, or its name: "nan", "inf" or "-inf"."""
    return number if number is None or math.isfinite(number) else str(number)


def _in_numbers(value: Any) -> float | None:
    return None if value is None else float(value)


class BadStepLog:
    """Writes a file for each step that a run skips, and a line of its metrics that names it."""

    def __init__(
        self,
        saver: Saver,
        folder: RunFolder,
        batches: TrainingBatches,
        cache: Cache,
        config: TrainingConfig,
        recipe: str,
    ) -> None:
        self._saver, self._folder, self._batches = saver, folder, batches
        self._cache, self._config, self._recipe = cache, config, recipe
        self._tracks = {track.key: track for track in cache.tracks}

    def write(
        self, *, step: int, losses: Sequence[float | None], gradient_norm: float | None, learning_rate: float
    ) -> None:
        """Put down step number `step`, counted from 1; `losses` are those of its passes, None where not known."""
        bad = self._describe(step, losses, gradient_norm, learning_rate)
        is_saved = self._saver.save_bad_step(json.dumps(bad.to_json(), allow_nan=False), step=step)
        file = self._folder.bad_step(step).relative_to(self._folder.path).as_posix() if is_saved else None
        self._saver.log({"kind": "bad_step", "step": step, "time": bad.time, "reason": bad.reason, "file": file})

    def _describe(
        self, step: int, losses: Sequence[float | None], gradient_norm: float | None, learning_rate: float
    ) -> BadStep:
        first = (step - 1) * self._config.accumulate_batches
        batches = tuple(self._batch(number, loss) for number, loss in enumerate(losses, first))
        keys = {layer.track for batch in batches for example in batch.examples for layer in example.plan.all_layers}
        tracks = [self._tracks[key] for key in sorted(keys)]
        return BadStep(
            step=step,
            time=timestamp(),
            reason=_reason(batches, gradient_norm),
            gradient_norm=gradient_norm,
            learning_rate=learning_rate,
            precision=self._config.precision,
            seed=self._config.seed,
            content=self._batches.content,
            cache=str(self._cache.path.absolute()),
            recipe=self._recipe,
            batches=batches,
            tracks={
                track.key: TrackOrigin.of(track.header, track.path.relative_to(self._cache.path).as_posix())
                for track in tracks
            },
        )

    def _batch(self, number: int, loss: float | None) -> BadBatch:
        examples = []
        for example in self._batches.numbers(number):
            epoch, index = self._batches.place(example)
            examples.append(BadExample(number=example, epoch=epoch, index=index, plan=self._batches.plan(example)))
        # Made again rather than taken from the step: its memory may have another batch in it by now.
        sha256 = batch_sha256(self._batches[number])
        return BadBatch(number=number, loss=loss, sha256=sha256, examples=tuple(examples))


def _reason(batches: Sequence[BadBatch], gradient_norm: float | None) -> str:
    parts = [
        f"the loss of batch {batch.number} is {batch.loss}"
        for batch in batches
        if batch.loss is not None and not math.isfinite(batch.loss)
    ]
    if gradient_norm is not None and not math.isfinite(gradient_norm):
        parts.append(f"the norm of the gradients is {gradient_norm}")
    return " and ".join(parts) or "the sum of the losses is not finite"


def end_after_bad_steps(
    make: Callable[[], Checkpoint], folder: RunFolder, saver: Saver, *, before: int, last: int, precision: str
) -> NoReturn:
    """Save the checkpoint of step `before`, which `make` makes, and raise the JobError: steps up to `last` led nowhere.

    Its message is another if the checkpoint itself holds numbers that are not finite: then none is written.
    """
    is_saved = saver.save(make, step=before)
    newest = folder.checkpoint(before) if is_saved else folder.newest_checkpoint
    if newest is None:
        way_on = "there is no checkpoint to go on from; start again with it"
    else:
        way_on = f"go on with --resume from {newest}, which is from before them"
    found = next((path for path in map(folder.bad_step, range(before + 1, last + 1)) if path.is_file()), None)
    look = f"; vrtool train --replay {found} shows what the first of them was made of" if found else ""
    change = "lower training.learning_rate" + (
        "" if precision == "float32" else ', or set training.precision = "float32"'
    )
    raise JobError(f"step {last}: no finite gradients {MAX_BAD_STEPS} times in a row; {change}, and {way_on}{look}")
