"""Recipes: TOML files that set the owners' configuration classes, with strict keys and types.

A recipe has the sections [model], [augmentation] and [training], and [stft] where it insists on a certain cache. What
it leaves out keeps its default. Nothing else is read from it, and a key that no class has is an error.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from vrtool.audio.spectrogram import StftSpec
from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.errors import InputError, RecipeError
from vrtool.model.config import ModelConfig
from vrtool.model.registry import find_architecture
from vrtool.training.config import TrainingConfig

SECTIONS: dict[str, type] = {
    "stft": StftSpec,
    "model": ModelConfig,
    "augmentation": AugmentationConfig,
    "training": TrainingConfig,
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything a training run is made from but its data; `text` is the TOML that gives it again."""

    text: str
    stft: StftSpec | None
    model: ModelConfig
    augmentation: AugmentationConfig
    training: TrainingConfig


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe in a file, changed by `section.key=value` overrides.

    Raises RecipeError naming the file, the key and what was expected.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected a recipe (a TOML file), found {'a folder' if path.is_dir() else 'nothing'}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: expected a TOML file in UTF-8, found other bytes ({error})") from error
    return parse_recipe(text, origin=str(path), overrides=overrides)


def parse_recipe(text: str, *, origin: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a TOML text; `origin` names it in errors."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{origin}: expected TOML, found an error: {error}") from error
    for override in overrides:
        _apply_override(values, override)
    for section in values:
        if section not in SECTIONS:
            raise RecipeError(f"{origin}: unknown section [{section}]{_suggestion(section, SECTIONS)}")
        if not isinstance(values[section], dict):
            raise RecipeError(f"{origin}: {section} must be a section, [{section}], found a value")
    stft = _section(StftSpec, "stft", values, origin) if "stft" in values else None
    training = _section(TrainingConfig, "training", values, origin)
    model = _model_section(values, stft, training, origin)
    if stft is not None and stft.n_fft != model.n_fft:
        raise RecipeError(f"{origin}: [model] n_fft is {model.n_fft}, [stft] n_fft is {stft.n_fft}; they must agree")
    return Recipe(
        text=to_toml(values),
        stft=stft,
        model=model,
        augmentation=_section(AugmentationConfig, "augmentation", values, origin),
        training=training,
    )


def _model_section(values: dict[str, Any], stft: StftSpec | None, training: TrainingConfig, origin: str) -> ModelConfig:
    """Return the [model] section, in `values` completed by what the network must know of the STFT and of the crops.

    These are said once, in their own sections, unless [model] insists.
    """
    given = values.setdefault("model", {})
    if stft is not None:
        given.setdefault("n_fft", stft.n_fft)
    config = _section(ModelConfig, "model", values, origin)
    try:
        architecture = find_architecture(config.architecture)
        _require_settings_of(architecture.settings, given, config.architecture)
        architecture.require_buildable(config)
    except RecipeError as error:
        raise RecipeError(f"{origin}: [model] {error}") from error
    if "crop_frames" not in architecture.settings:
        return config
    given.setdefault("crop_frames", training.crop_frames)
    return _section(ModelConfig, "model", values, origin)


def _require_settings_of(settings: frozenset[str], given: Mapping[str, Any], architecture: str) -> None:
    without_meaning = sorted(given.keys() - settings - {"architecture"})
    if without_meaning:
        raise RecipeError(
            f"{without_meaning[0]} means nothing to architecture {architecture!r}, whose settings are "
            f"{', '.join(sorted(settings))}; leave it out"
        )


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name):
        raise RecipeError(f"--set {override}: expected section.key=value, such as training.num_steps=1000")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # A bare word is meant as a string: quotes would have to be quoted again for the shell.
        value = text.strip()
    entries = values.setdefault(section, {})
    if isinstance(entries, dict):  # otherwise the recipe is wrong already, and will be told so
        entries[name] = value


def _section(owner: type[T], section: str, values: Mapping[str, Any], origin: str) -> T:
    given = values.get(section, {})
    kinds = typing.get_type_hints(owner)
    names = [field.name for field in fields(owner)]  # type: ignore[arg-type]  # every owner is a dataclass
    for key in given:
        if key not in names:
            raise RecipeError(f"{origin}: [{section}] has no key {key!r}{_suggestion(key, names)}")
    try:
        return owner(**{key: _convert(value, kinds[key], f"[{section}] {key}") for key, value in given.items()})
    except InputError as error:
        where = "" if str(error).startswith("[") else f"[{section}] "
        raise RecipeError(f"{origin}: {where}{error}") from error


def _convert(value: Any, kind: Any, where: str) -> Any:
    """Return a TOML value as the field's type, or raise RecipeError saying what was expected."""
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
        if value in choices:
            return value
        raise RecipeError(f"{where} must be one of {', '.join(map(repr, choices))}, found {value!r}")
    if typing.get_origin(kind) is dict:
        if isinstance(value, dict):
            return {key: _convert(item, typing.get_args(kind)[1], f"{where} {key!r}") for key, item in value.items()}
        raise RecipeError(f"{where} must be a table such as {{ name = 1.0 }}, found {value!r}")
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        if parts[-1] is Ellipsis:
            if not isinstance(value, list):
                raise RecipeError(f"{where} must be a list, found {value!r}")
            parts = parts[:1] * len(value)
        if isinstance(value, list) and len(value) == len(parts):
            return tuple(_convert(item, part, where) for item, part in zip(value, parts, strict=True))
        raise RecipeError(f"{where} must be a list of {len(parts)} numbers, found {value!r}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is kind:
        return value
    expected = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}[kind]
    raise RecipeError(f"{where} must be {expected}, found {value!r}")


def _suggestion(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"


def to_toml(values: Mapping[str, Mapping[str, Any]]) -> str:
    """Return sections of plain values as TOML, the inverse of `tomllib.loads` for what recipes hold."""
    lines: list[str] = []
    for section, entries in values.items():
        lines += [f"[{section}]", *(f"{key} = {_toml_value(value)}" for key, value in entries.items()), ""]
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_toml_value(key)} = {_toml_value(item)}' for key, item in value.items())} }}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # TOML's basic strings escape as JSON's do
    return repr(value)
