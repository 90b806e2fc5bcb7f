"""Checkpoints: one safetensors file that says everything that is needed to use or to continue a network.

Tensors are named `weights/...` and, for a run that may go on, `training/...`. The file's metadata has the entry
`vrtool`, a JSON object: format version, model and STFT settings, the recipe's text, progress, model card and the
SHA-256 of each group of tensors. A second entry, `vrtool_sha256`, is that of the first. Opening a checkpoint never
executes anything in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vrtool.audio.spectrogram import StftSpec
from vrtool.errors import CheckpointError, DamagedCheckpointError
from vrtool.model.checkpoint_header import (
    COPY_AGAIN,
    Json,
    parse_header,
    parse_model,
    parse_stft,
    to_metadata,
    used_settings,
)
from vrtool.model.config import ModelConfig
from vrtool.model.fitting import require_network
from vrtool.model.network import Network
from vrtool.model.tensor_file import write_tensors

WEIGHTS = "weights/"
TRAINING = "training/"

# What a run folder offers, the best first.
RUN_CHECKPOINTS = ("best.safetensors", "last.safetensors")

BUILTIN = "builtin"
"""What stands for the weights that come with vrtool, wherever a model is named; never a file or folder of that name."""
BUILTIN_FILE = Path(__file__).with_name("builtin.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A network and where it comes from.

    Attributes:
        weights: the network's state dict.
        model: what the network is built from.
        stft: the spectrograms that it was trained on.
        recipe: the TOML text that it was trained with; empty if there was none.
        progress: how far training came: steps and losses.
        card: what people should know about it: name, data, scores, licence.
        training_state: what only a run that goes on needs, empty in a model that is only to be used.
    """

    weights: dict[str, Tensor]
    model: ModelConfig
    stft: StftSpec
    recipe: str = ""
    progress: dict[str, Json] = field(default_factory=dict)
    card: dict[str, Json] = field(default_factory=dict)
    training_state: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, whole or not at all. OSErrors pass through."""
    header: dict[str, Json] = {
        "model": used_settings(checkpoint.model),
        "stft": asdict(checkpoint.stft),
        "recipe": checkpoint.recipe,
        "progress": checkpoint.progress,
        "card": checkpoint.card,
        "sha256": {
            "weights": _tensor_checksum(checkpoint.weights),
            "training": _tensor_checksum(checkpoint.training_state),
        },
    }
    tensors = _prefixed(WEIGHTS, checkpoint.weights) | _prefixed(TRAINING, checkpoint.training_state)
    write_tensors(path, tensors, to_metadata(header))


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors takes contiguous memory that no two tensors share; whoever still trains keeps theirs untouched.
    return {
        prefix + name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _tensor_checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_checkpoint(path: Path, *, with_training_state: bool = False) -> Checkpoint:
    """Return the checkpoint in the file `path`, its tensors on the CPU.

    `training_state` is left empty, and unread, unless asked for. Raises DamagedCheckpointError if what is read is not
    what was written, CheckpointError if the file is missing, of another kind, written by a newer vrtool, or if its
    weights are not those of the network it describes.
    """
    _require_checkpoint_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_header(path, file.metadata())
            weights = _read_tensors(file, WEIGHTS)
            training_state = _read_tensors(file, TRAINING) if with_training_state else {}
    except SafetensorError as error:
        raise DamagedCheckpointError(
            f"{path} is damaged, incomplete or not a safetensors file ({error}); {COPY_AGAIN}"
        ) from error
    if header["format_version"] > 1:
        _require_checksum(path, weights, header["sha256"]["weights"])
        if with_training_state:
            _require_checksum(path, training_state, header["sha256"]["training"])
    model = parse_model(path, header["model"], header["format_version"])
    stft = parse_stft(path, header["stft"])
    if model.n_fft != stft.n_fft:
        raise CheckpointError(
            f"{path} has a header that contradicts itself: n_fft {model.n_fft} for the model, {stft.n_fft} for the STFT"
        )
    require_network(weights, model, str(path))
    return Checkpoint(
        weights=weights,
        model=model,
        stft=stft,
        recipe=header["recipe"],
        progress=header["progress"],
        card=header["card"],
        training_state=training_state,
    )


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that `path` means: itself if a file, a run folder's best, else its last one, or `BUILTIN`.

    Raises CheckpointError if there is none.
    """
    if is_builtin(path):
        path = BUILTIN_FILE
    if not path.is_dir():
        _require_checkpoint_file(path)
        return path
    for name in RUN_CHECKPOINTS:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(
        f"{path} holds neither {' nor '.join(RUN_CHECKPOINTS)}; give a checkpoint or the folder of a run that wrote one"
    )


def is_builtin(path: Path) -> bool:
    """Return whether `path` means the weights that come with vrtool."""
    return str(path) == BUILTIN


def checkpoint_model(checkpoint: Checkpoint) -> Network:
    """Return the checkpoint's network, in evaluation mode, on the CPU, with a copy of the weights.

    Raises CheckpointError naming the tensors if the weights are not those of the network.
    """
    network = require_network(checkpoint.weights, checkpoint.model, "the checkpoint")
    network.to_empty(device="cpu").load_state_dict(checkpoint.weights, strict=True)
    return network.eval()


def load_model(path: str | Path = BUILTIN) -> Network:
    """Return the network of a checkpoint file or run folder, or the one that comes with vrtool, in evaluation mode.

    It is on the CPU and takes magnitudes (batch, channel, bin, frame), float32, in [0, 1], 1 being the loudest of the
    song, and returns the instrumental's mask in [0, 1], same shape. Raises CheckpointError if there is no sound
    checkpoint.
    """
    return checkpoint_model(load_checkpoint(find_checkpoint(Path(path))))


def _require_checkpoint_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the .safetensors file in it")
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a .safetensors checkpoint or the folder of a run")
    with path.open("rb") as file:
        start = file.read(9)
    # torch.save writes a zip archive, once a bare pickle of protocol 2. A safetensors file begins with the length of
    # its header, which may look like either, but is followed by that header's brace.
    if start.startswith((b"PK\x03\x04", b"\x80\x02")) and not start.endswith(b"{"):
        raise CheckpointError(
            f"{path} is a pickle written by torch.save, not a vrtool checkpoint, and is not opened because pickles can "
            "run code; if it holds the ancestor's weights, turn it into a checkpoint with vrtool import-checkpoint"
        )


def _read_tensors(file: Any, prefix: str) -> dict[str, Tensor]:
    names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (it is no dict: not iterable)
    return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def _require_checksum(path: Path, tensors: Mapping[str, Tensor], expected: str) -> None:
    if _tensor_checksum(tensors) != expected:
        raise DamagedCheckpointError(f"{path} is damaged: its tensors are not what was written; {COPY_AGAIN}")
