"""Checkpoints: one safetensors file that says everything that is needed to use or to continue a network.

Tensors are named `weights/...` and, for a run that may go on, `training/...`. The file's metadata has the entry
`vrtool`, a JSON object: format version, model and STFT settings, the recipe's text, progress, model card and the
SHA-256 of each group of tensors. A second entry, `vrtool_sha256`, is that of the first. Opening a checkpoint never
executes anything in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vrtool.audio.spectrogram import StftSpec
from vrtool.errors import CheckpointError, DamagedCheckpointError, InputError, RecipeError
from vrtool.model.config import ModelConfig
from vrtool.model.network import Network
from vrtool.model.registry import build_model, find_architecture
from vrtool.model.tensor_file import write_tensors

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

FORMAT_VERSION = 3
"""Version 1 had no checksums."""
ADDED_SETTINGS: dict[str, Json] = {"fine_bins": 0}
"""Settings of networks that came with version 3, and what they were before."""
METADATA_KEY = "vrtool"
CHECKSUM_KEY = "vrtool_sha256"
WEIGHTS = "weights/"
TRAINING = "training/"
COPY_AGAIN = "copy it again from where it was made"

# What a run folder offers, the best first.
RUN_CHECKPOINTS = ("best.safetensors", "last.safetensors")


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
    header = {
        "format_version": FORMAT_VERSION,
        "model": used_settings(checkpoint.model),
        "stft": asdict(checkpoint.stft),
        "recipe": checkpoint.recipe,
        "progress": checkpoint.progress,
        "card": checkpoint.card,
    }
    tensors = _prefixed(WEIGHTS, checkpoint.weights) | _prefixed(TRAINING, checkpoint.training_state)
    header["sha256"] = {
        "weights": _tensor_checksum(checkpoint.weights),
        "training": _tensor_checksum(checkpoint.training_state),
    }
    text = json.dumps(header, allow_nan=False)
    metadata = {METADATA_KEY: text, CHECKSUM_KEY: hashlib.sha256(text.encode()).hexdigest()}
    write_tensors(path, tensors, metadata)


def used_settings(config: ModelConfig) -> dict[str, Json]:
    """Return the architecture's name and the settings that it is built from, all others being without meaning."""
    used = {"architecture"} | find_architecture(config.architecture).settings
    return {name: value for name, value in asdict(config).items() if name in used}


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
            header = _parse_header(path, file.metadata())
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
    untold = ADDED_SETTINGS if header["format_version"] < 3 else {}
    model = _build_model_config(path, header["model"], untold)
    stft = _build_config(path, StftSpec, header["stft"], {setting.name for setting in fields(StftSpec)})
    if model.n_fft != stft.n_fft:
        raise CheckpointError(
            f"{path} has a header that contradicts itself: n_fft {model.n_fft} for the model, {stft.n_fft} for the STFT"
        )
    require_weights_that_fit(weights, model, str(path))
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
    """Return the checkpoint that `path` means: itself if a file, or a run folder's best, else its last one.

    Raises CheckpointError if there is none.
    """
    if not path.is_dir():
        _require_checkpoint_file(path)
        return path
    for name in RUN_CHECKPOINTS:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(
        f"{path} holds neither {' nor '.join(RUN_CHECKPOINTS)}; give a checkpoint or the folder of a run that wrote one"
    )


def checkpoint_model(checkpoint: Checkpoint) -> Network:
    """Return the checkpoint's network, in evaluation mode, on the CPU, with a copy of the weights.

    Raises CheckpointError naming the tensors if the weights are not those of the network.
    """
    network = _require_network(checkpoint.weights, checkpoint.model, "the checkpoint")
    network.to_empty(device="cpu").load_state_dict(checkpoint.weights, strict=True)
    return network.eval()


def load_model(path: str | Path) -> Network:
    """Return the network of the checkpoint file or run folder `path`, in evaluation mode, on the CPU.

    It takes magnitudes (batch, channel, bin, frame), float32, in [0, 1], 1 being the loudest of the song, and returns
    the instrumental's mask in [0, 1], same shape. Raises CheckpointError if there is no sound checkpoint.
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


def _parse_header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the header, all its entries present and of the right type."""
    if METADATA_KEY not in (metadata or {}):
        if CHECKSUM_KEY in (metadata or {}):
            raise DamagedCheckpointError(f"{path} is damaged: its header has no name; {COPY_AGAIN}")
        raise CheckpointError(
            f"{path} is a safetensors file without vrtool's header, so its network is unknown; give a checkpoint that "
            "vrtool train or vrtool import-checkpoint wrote"
        )
    text, checksum = (metadata or {})[METADATA_KEY], (metadata or {}).get(CHECKSUM_KEY)
    if checksum is not None and checksum != hashlib.sha256(text.encode()).hexdigest():
        raise DamagedCheckpointError(f"{path} is damaged: its header is not what was written; {COPY_AGAIN}")
    try:
        header = json.loads(text)
        version = header["format_version"]
        if version > FORMAT_VERSION:
            raise CheckpointError(
                f"{path} has format version {version}, this vrtool reads up to {FORMAT_VERSION}; update vrtool"
            )
        if version > 1 and checksum is None:
            raise DamagedCheckpointError(f"{path} is damaged: its header has lost its checksum; {COPY_AGAIN}")
        types = {"model": dict, "stft": dict, "recipe": str, "progress": dict, "card": dict}
        wrong = [name for name, kind in types.items() if not isinstance(header[name], kind)]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has a header that cannot be understood ({error!r})") from error
    if wrong:
        raise CheckpointError(f"{path} has a header whose {', '.join(wrong)} cannot be understood")
    return dict(header)


ConfigT = TypeVar("ConfigT", ModelConfig, StftSpec)


def _build_model_config(path: Path, values: dict[str, Any], untold: Mapping[str, Json]) -> ModelConfig:
    """Return the settings in `values` and, where its architecture has them, of those in `untold`.

    CheckpointError unless all and only the architecture's are there.
    """
    name = values.get("architecture")
    if not isinstance(name, str):
        raise CheckpointError(f"{path} has a header that does not fit this vrtool: missing or wrong architecture")
    try:
        settings = find_architecture(name).settings
    except RecipeError as error:
        raise CheckpointError(f"{path} describes a network that this vrtool cannot build: {error}") from error
    values = {name: value for name, value in untold.items() if name in settings} | values
    return _build_config(path, ModelConfig, values, {"architecture"} | settings)


def _build_config(path: Path, kind: type[ConfigT], values: dict[str, Any], names: set[str]) -> ConfigT:
    """Return the settings in `values`; CheckpointError unless these are the fields `names` of `kind`, all valid."""
    expected = {setting.name: type(setting.default) for setting in fields(kind) if setting.name in names}
    wrong = expected.keys() ^ values.keys()
    wrong |= {name for name in expected.keys() & values.keys() if not _has_type(values[name], expected[name])}
    if wrong:
        raise CheckpointError(
            f"{path} has a header that does not fit this vrtool: unknown, missing or wrong {', '.join(sorted(wrong))}"
        )
    try:
        return kind(**values)
    except InputError as error:
        raise CheckpointError(f"{path} has a header that does not fit this vrtool: {error}") from error


def _has_type(value: Json, kind: type) -> bool:
    # JSON's true is no number; a whole number will do where a fraction is expected.
    return type(value) is kind or (kind is float and type(value) is int)


def require_weights_that_fit(weights: Mapping[str, Tensor], config: ModelConfig, owner: str) -> None:
    """Raise CheckpointError unless names and shapes of `weights` are those of the network that `config` describes."""
    _require_network(weights, config, owner)


def _require_network(weights: Mapping[str, Tensor], config: ModelConfig, owner: str) -> Network:
    """Return the network that `config` describes, without memory, once `weights` are known to fit it."""
    try:
        # On no device: drawing starting weights only to overwrite them takes seconds in a large network.
        with torch.device("meta"):
            network = build_model(config)
    except RecipeError as error:
        raise CheckpointError(f"{owner} describes a network that this vrtool cannot build: {error}") from error
    misfits = describe_misfits(weights, network)
    if misfits:
        raise CheckpointError(f"{owner} does not hold the weights of the network it describes: {misfits}")
    return network


def describe_misfits(weights: Mapping[str, Tensor], network: Network) -> str:
    """Return in words which `weights` are not those of the network, with both shapes; nothing if all fit."""
    expected = network.state_dict()
    misfits = [
        f"{name} is missing" if name not in weights else f"{name} is unknown"
        for name in sorted(expected.keys() ^ weights.keys())
    ]
    misfits += [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    more = f", and {len(misfits) - 3} more like that" if len(misfits) > 3 else ""
    return ", ".join(misfits[:3]) + more
