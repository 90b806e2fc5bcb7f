"""The single place that builds networks."""

from __future__ import annotations

from collections.abc import Callable

from vrtool.errors import RecipeError
from vrtool.model.config import ModelConfig
from vrtool.model.frame_transformer import FrameTransformer
from vrtool.model.network import Network

# Every architecture by its name in ModelConfig.architecture: another network is one file and one line here.
ARCHITECTURES: dict[str, Callable[[ModelConfig], Network]] = {
    "frame_transformer": FrameTransformer,
}


def build_model(config: ModelConfig) -> Network:
    """Return the network that `config` describes, in training mode, with new weights from torch's generator.

    Raises RecipeError for an unknown architecture.
    """
    if config.architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise RecipeError(f"architecture {config.architecture!r} is not known; choose one of {known}")
    return ARCHITECTURES[config.architecture](config)
