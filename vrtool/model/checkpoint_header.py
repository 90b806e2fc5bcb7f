"""The header of a checkpoint: JSON in the file's metadata, with its own checksum, and what is refused as one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from vrtool.audio.spectrogram import StftSpec
from vrtool.errors import CheckpointError, DamagedCheckpointError, InputError, RecipeError
from vrtool.model.config import ModelConfig
from vrtool.model.registry import find_architecture

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

FORMAT_VERSION = 3
"""Version 1 had no checksums."""
ADDED_SETTINGS: dict[str, Json] = {"fine_bins": 0}
"""Settings of networks that came with version 3, and what they were before."""
METADATA_KEY = "vrtool"
CHECKSUM_KEY = "vrtool_sha256"
COPY_AGAIN = "copy it again from where it was made"

ConfigT = TypeVar("ConfigT", ModelConfig, StftSpec)


def to_metadata(header: Mapping[str, Json]) -> dict[str, str]:
    """Return the metadata of a file with this header, to which the format version is added."""
    text = json.dumps({"format_version": FORMAT_VERSION, **header}, allow_nan=False)
    return {METADATA_KEY: text, CHECKSUM_KEY: hashlib.sha256(text.encode()).hexdigest()}


def used_settings(config: ModelConfig) -> dict[str, Json]:
    """Return the architecture's name and the settings that it is built from, all others being without meaning."""
    used = {"architecture"} | find_architecture(config.architecture).settings
    return {name: value for name, value in asdict(config).items() if name in used}


def parse_header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the header, all its entries present and of the right type; what is in them is still to be looked at.

    Raises DamagedCheckpointError if it is not what was written, CheckpointError if it is none that can be read.
    """
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


def parse_model(path: Path, values: dict[str, Any], version: int) -> ModelConfig:
    """Return the settings in `values`, and what files of that format version mean by those that they do not tell.

    CheckpointError unless all and only the architecture's are there.
    """
    name = values.get("architecture")
    if not isinstance(name, str):
        raise CheckpointError(f"{path} has a header that does not fit this vrtool: missing or wrong architecture")
    try:
        settings = find_architecture(name).settings
    except RecipeError as error:
        raise CheckpointError(f"{path} describes a network that this vrtool cannot build: {error}") from error
    untold = ADDED_SETTINGS if version < 3 else {}
    values = {name: value for name, value in untold.items() if name in settings} | values
    return _parse_config(path, ModelConfig, values, {"architecture"} | settings)


def parse_stft(path: Path, values: dict[str, Any]) -> StftSpec:
    """Return the STFT in `values`; CheckpointError unless all and only its settings are there."""
    return _parse_config(path, StftSpec, values, {setting.name for setting in fields(StftSpec)})


def _parse_config(path: Path, kind: type[ConfigT], values: dict[str, Any], names: set[str]) -> ConfigT:
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
