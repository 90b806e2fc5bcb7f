"""A step that was skipped, made again from its plans: its batches, and what the run's network makes of each example."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vrtool.dataset.cache import Cache, CachedTrack, open_cache
from vrtool.dataset.examples import ExampleBuilder, batch_sha256, build_batch
from vrtool.dataset.plan import Layer
from vrtool.errors import CacheError, CheckpointError, JobError
from vrtool.model.acceleration import autocast
from vrtool.model.checkpoint import Checkpoint, checkpoint_model, load_checkpoint
from vrtool.model.tensor_file import write_tensors
from vrtool.training.averaging import NewestWeights
from vrtool.training.bad_steps import BadBatch, BadStep
from vrtool.training.config import TrainingConfig
from vrtool.training.freezing import freeze
from vrtool.training.losses import TrainingLoss, Truth
from vrtool.training.run_folder import RunFolder
from vrtool.training.schedule import random_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A batch of a bad step, made again: the tensor (2 targets, example, channel, bin, frame)."""

    recorded: BadBatch
    tensor: Tensor
    is_same: bool
    """Whether its bytes are those that the run noted down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a network makes of examples: the loss and the Euclidean norm of all gradients."""

    loss: float
    gradient_norm: float

    @property
    def is_finite(self) -> bool:
        """Whether a step could be made of it."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


def open_cache_of(bad: BadStep, moved_to: Path | None) -> Cache:
    """Return the cache that a step's examples came from; raises CacheError if it lacks what they are made of."""
    path = moved_to or Path(bad.cache)
    if moved_to is None and not path.is_dir():
        raise CacheError(f"{path}: expected the cache that the run was trained on, found none; name it with --cache")
    cache = open_cache(path)
    tracks = {track.key: track for track in cache.tracks}
    for batch in bad.batches:
        for example in batch.examples:
            for layer in example.plan.all_layers:
                _require_layer(cache, tracks.get(layer.track), layer)
    return cache


def _require_layer(cache: Cache, track: CachedTrack | None, layer: Layer) -> None:
    """Raise CacheError unless the track has what the layer takes of it, which whoever carries out plans relies on."""
    if track is None:
        found = "no such track"
    elif layer.role not in track.header.statistics:
        found = f"none of its {layer.role}"
    elif layer.offset_frames + layer.num_frames > track.header.num_frames:
        found = f"{track.header.num_frames} frames"
    elif max(layer.channels) >= track.header.num_channels:
        found = f"{track.header.num_channels} channels"
    else:
        return
    raise CacheError(
        f"{cache.path}: expected {layer.num_frames} frames of {layer.track} from frame {layer.offset_frames} on, found "
        f"{found}; it is another cache, or has changed since: name the run's own with --cache"
    )


def rebuild(bad: BadStep, cache: Cache) -> Iterator[Rebuilt]:
    """Yield the batches of a step, carried out from its plans. Nothing is drawn."""
    builder = ExampleBuilder(tracks={track.key: track for track in cache.tracks}, stft=cache.stft)
    for batch in bad.batches:
        tensor = build_batch(builder, [example.plan for example in batch.examples], bad.content)
        yield Rebuilt(recorded=batch, tensor=tensor, is_same=batch_sha256(tensor) == batch.sha256)


def require_same_bytes(bad: BadStep, cache: Cache, differing: list[int]) -> None:
    """Raise JobError if batches of these numbers differ from those of the run, naming the tracks that have changed."""
    if not differing:
        return
    now = {track.key: {role: entry.crc32 for role, entry in track.header.storage.items()} for track in cache.tracks}
    changed = [key for key, origin in bad.tracks.items() if now.get(key) != origin.crc32]
    numbers = f"batch {differing[0]}" if len(differing) == 1 else f"batches {', '.join(map(str, differing))}"
    reason = (
        f"the cache has changed since: {', '.join(changed)} {'was' if len(changed) == 1 else 'were'} prepared again"
        if changed
        else "either bytes of the cache have changed since, which vrtool inspect-dataset --verify tells, or this "
        "processor rounds otherwise than that of the run"
    )
    raise JobError(f"{cache.path}: {numbers} of step {bad.step} came out with other bytes than in the run; {reason}")


def find_network(folder: RunFolder, step: int, *, tell: Callable[[str], None]) -> tuple[Path, Checkpoint] | None:
    """Return the newest checkpoint of a run at or before a step, None if there is none; damaged ones are told."""
    for path in [*folder.checkpoints_until(step), folder.last, folder.best]:
        if not path.is_file():
            continue
        try:
            checkpoint = load_checkpoint(path, with_training_state=True)
        except CheckpointError as error:
            tell(f"{error}. Going on without it")
            continue
        reached = checkpoint.progress.get("step")
        if isinstance(reached, int) and reached <= step:
            return path, checkpoint
    return None


class Trial:
    """A run's network as it was before a step, to try examples on in the run's own precision.

    Dropout is drawn as for the example's batch, and batch norms see only what is tried together: a whole batch comes
    out as in the run if the checkpoint is of the step before, an example alone is near that.
    """

    def __init__(self, checkpoint: Checkpoint, config: TrainingConfig, device: torch.device) -> None:
        """Raise RecipeError if the recipe asks for what the network cannot do."""
        self._config, self._device = config, device
        self._network = checkpoint_model(checkpoint)
        # With averaged weights, those of the checkpoint are not the ones that the step began with.
        NewestWeights(self._network).restore(checkpoint)
        self._network.to(device).train()
        self._frozen_norms = freeze(self._network, config.freeze)
        if config.recompute_activations:
            self._network.recompute_activations()
        self._loss = TrainingLoss(config.losses, checkpoint.stft, config.stft_loss_n_fft)

    def run(self, batch: Tensor, number: int) -> Outcome:
        """Return what becomes of examples (2 targets, example, channel, bin, frame) of batch number `number`."""
        self._network.zero_grad(set_to_none=True)
        for frozen in self._frozen_norms:
            frozen.eval()
        truth = Truth(batch.to(self._device))
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(random_seed(number, self._config))
            with autocast(self._device, self._config.precision):
                mask = self._network.training_mask(truth.mixture, truth.instrumental)
            total, _ = self._loss(mask.float(), truth)
            total.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), float("inf"))
        return Outcome(loss=float(total.detach()), gradient_norm=float(norm))


def write_batches(path: Path, bad: BadStep, batches: list[Rebuilt]) -> None:
    """Write mixture and instrumental of batches, (example, channel, bin, frame) each, as safetensors. OSErrors pass.

    Complex numbers have a last dimension of two more, real and imaginary part.
    """
    tensors = {}
    for batch in batches:
        parts = torch.view_as_real(batch.tensor) if batch.tensor.is_complex() else batch.tensor
        for name, target in zip(("mixture", "instrumental"), parts, strict=True):
            tensors[f"batch-{batch.recorded.number:08}/{name}"] = target.clone(memory_format=torch.contiguous_format)
    write_tensors(path, tensors, {"step": str(bad.step), "content": bad.content})
