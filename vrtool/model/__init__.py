"""Networks: one registry of architectures, the way from mask to stems, and checkpoints that describe themselves.

Used alike by training, separation and evaluation.
"""

from vrtool.model.config import ModelConfig
from vrtool.model.network import Network
from vrtool.model.registry import build_model

__all__ = ["ModelConfig", "Network", "build_model"]
