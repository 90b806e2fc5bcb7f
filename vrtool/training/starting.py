"""What a run may begin or go on with: checkpoints that fit its network and its cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.cache import Cache
from vrtool.dataset.header import check_same_stft
from vrtool.errors import CheckpointError, InputError
from vrtool.model import ModelConfig, Network
from vrtool.model.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from vrtool.model.fitting import describe_misfits


def load_initial(model: Path) -> tuple[Path, Checkpoint]:
    """Return the checkpoint of a file or a run folder, and where it is."""
    path = find_checkpoint(model)
    return path, load_checkpoint(path)


def take_initial_weights(
    network: Network, path: Path, checkpoint: Checkpoint, cache: Cache, *, tell: Callable[[str], None]
) -> None:
    """Give the network the weights of a checkpoint that was found at `path`.

    Settings that differ without changing a shape are told, as the recipe may mean them, and so is another hop, to which
    weights get used. Raises CheckpointError if weights do not fit, CacheError if the cache has another sample rate or
    window.
    """
    found, wanted = checkpoint.model, network.config
    if found.architecture != wanted.architecture:
        raise CheckpointError(
            f"{path} has a network of architecture {found.architecture!r}, the recipe says {wanted.architecture!r}; "
            f'set [model] architecture = "{found.architecture}"'
        )
    differing = [
        f"{name} {getattr(found, name)}, the recipe says {getattr(wanted, name)}"
        for name in sorted(network.settings)
        if getattr(found, name) != getattr(wanted, name)
    ]
    misfits = describe_misfits(checkpoint.weights, network)
    if misfits:
        raise CheckpointError(
            f"{path} does not fit the network of the recipe: it was trained with {'; '.join(differing)}; so {misfits}"
        )
    _require_stft(replace(cache.stft, hop_length=1), replace(checkpoint.stft, hop_length=1), cache, path)
    if checkpoint.stft.hop_length != cache.stft.hop_length:
        differing.append(f"hop_length {checkpoint.stft.hop_length}, the cache has {cache.stft.hop_length}")
    for difference in differing:
        tell(f"{path} was trained with {difference}")
    network.load_state_dict(checkpoint.weights)


def require_resumable(
    checkpoint: Checkpoint, path: Path, *, model: ModelConfig, network: Network, cache: Cache
) -> None:
    """Raise InputError unless the checkpoint of a run is of this very network and of the cache's STFT."""
    for name in ("architecture", *sorted(network.settings)):
        found, wanted = getattr(checkpoint.model, name), getattr(model, name)
        if found != wanted:
            raise InputError(
                f"{path} was trained with {name} {found}, the recipe says {wanted}; "
                "resume with the run's own recipe.toml"
            )
    _require_stft(cache.stft, checkpoint.stft, cache, path)


def _require_stft(found: StftSpec, wanted: StftSpec, cache: Cache, path: Path) -> None:
    check_same_stft(found, wanted, origin=str(cache.path), wanted_by=f"{path} was trained on")
