"""The single place that knows the architectures and builds networks."""

from __future__ import annotations

from vrtool.errors import RecipeError
from vrtool.model.autoregressive import AutoregressiveFrameTransformer
from vrtool.model.config import ModelConfig
from vrtool.model.frame_transformer import FrameTransformer
from vrtool.model.network import Network
from vrtool.model.unet import UNet

# Every architecture by its name in ModelConfig.architecture: another network is one file and one line here.
ARCHITECTURES: dict[str, type[Network]] = {
    "frame_transformer": FrameTransformer,
    "autoregressive": AutoregressiveFrameTransformer,
    "unet": UNet,
}


def find_architecture(name: str) -> type[Network]:
    """Return the network class called `name`; RecipeError if there is none."""
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise RecipeError(f"architecture {name!r} is not known; choose one of {known}")
    return ARCHITECTURES[name]


def build_model(config: ModelConfig) -> Network:
    """Return the network that `config` describes, in training mode, with new weights from torch's generator.

    Raises RecipeError for an unknown architecture, or settings that it cannot be built from.
    """
    return find_architecture(config.architecture)(config)
