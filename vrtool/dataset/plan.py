"""What a training example is made of, down to the last random choice, as values and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

from vrtool.dataset.track import Role
from vrtool.errors import InputError

Gains = tuple[float, float]
"""Linear, signed factors of left and right."""

EQUALISER_POINTS_HZ = (60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3840.0, 7680.0, 15360.0)
"""Octave-spaced centres of the random equaliser, as on a graphic equaliser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One signal of one track inside an example.

    Frames `offset_frames` to `offset_frames + num_frames` of the track stand at `position_frames` of the example. Left
    and right are fed by the track's `channels`, times the gains (linear, signed) for each target, times the equaliser.
    `peak` is the track's largest magnitude in this role.
    """

    track: str
    role: Role
    peak: float
    offset_frames: int
    num_frames: int
    position_frames: int
    channels: tuple[int, int]
    mixture_gains: Gains = (0.0, 0.0)
    instrumental_gains: Gains = (0.0, 0.0)
    equaliser_db: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplePlan:
    """Every random choice behind one training example.

    `mixup_weight` is this example's share in the blend with its partner `mixup`, which has the rest.
    """

    num_frames: int
    layers: tuple[Layer, ...]
    mixup: ExamplePlan | None = None
    mixup_weight: float = 1.0

    @property
    def start_track(self) -> str:
        """The track that the example was started from: a pair, or the instrumental that vocals are laid over."""
        return self.layers[0].track

    @property
    def all_layers(self) -> tuple[Layer, ...]:
        """The layers with those of the mixup partner."""
        return self.layers if self.mixup is None else self.layers + self.mixup.layers

    @property
    def peak(self) -> float:
        """The largest of the tracks' peaks times their gains, mixtures apart: the least that 1.0 may stand for."""
        return max(
            layer.peak * max(map(abs, layer.mixture_gains + layer.instrumental_gains))
            for layer in self.layers
            if layer.role != "mixture"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values, the inverse of `from_json`; numbers keep every bit."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any, *, origin: str) -> ExamplePlan:
        """Return the plan that `to_json` described; `origin` names its place in errors.

        Raises InputError unless the values are those of a plan, all of them and no others, in ranges that a builder
        can carry out.
        """
        try:
            plan = _plan(values)
            if plan.mixup is not None and (plan.mixup.mixup is not None or plan.mixup.num_frames != plan.num_frames):
                raise ValueError("its mixup is no single example of as many frames")
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{origin}: expected the plan of an example, found another thing ({error}); give a file as vrtool "
                "wrote it"
            ) from error
        return plan


def _plan(values: Any) -> ExamplePlan:
    _require_fields(values, ExamplePlan)
    plan = ExamplePlan(
        num_frames=_whole(values["num_frames"], "num_frames", lowest=1),
        layers=tuple(_layer(layer) for layer in _list(values["layers"], "layers")),
        mixup=None if values["mixup"] is None else _plan(values["mixup"]),
        mixup_weight=_number(values["mixup_weight"], "mixup_weight"),
    )
    if all(layer.role == "mixture" for layer in plan.layers):
        raise ValueError("no layer but of mixtures")
    if any(layer.position_frames + layer.num_frames > plan.num_frames for layer in plan.layers):
        raise ValueError("a layer that ends after the example")
    return plan


def _layer(values: Any) -> Layer:
    _require_fields(values, Layer)
    if not isinstance(values["track"], str) or values["role"] not in get_args(Role):
        raise ValueError(f"track {values['track']!r} with role {values['role']!r}")
    left, right = (_whole(channel, "channels") for channel in _list(values["channels"], "channels", (2,)))
    return Layer(
        track=values["track"],
        role=values["role"],
        peak=_number(values["peak"], "peak"),
        offset_frames=_whole(values["offset_frames"], "offset_frames"),
        num_frames=_whole(values["num_frames"], "num_frames", lowest=1),
        position_frames=_whole(values["position_frames"], "position_frames"),
        channels=(left, right),
        mixture_gains=_gains(values, "mixture_gains"),
        instrumental_gains=_gains(values, "instrumental_gains"),
        equaliser_db=tuple(
            _number(gain, "equaliser_db")
            for gain in _list(values["equaliser_db"], "equaliser_db", (0, len(EQUALISER_POINTS_HZ)))
        ),
    )


def _gains(values: Mapping[str, Any], name: str) -> Gains:
    left, right = (_number(gain, name) for gain in _list(values[name], name, (2,)))
    return left, right


def _require_fields(values: Any, kind: type[ExamplePlan | Layer]) -> None:
    names = {field.name for field in fields(kind)}
    if not isinstance(values, dict):
        raise TypeError(f"{values!r:.40}")
    if values.keys() != names:
        raise ValueError(f"unknown or missing {', '.join(sorted(map(str, values.keys() ^ names)))}")


def _list(value: Any, name: str, lengths: tuple[int, ...] = ()) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or (lengths and len(value) not in lengths):
        raise TypeError(f"{name} {value!r:.40}")
    return value


def _whole(value: Any, name: str, *, lowest: int = 0) -> int:
    if type(value) is not int or value < lowest:
        raise TypeError(f"{name} {value!r:.40}")
    return value


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{name} {value!r:.40}")
    return float(value)
