"""The network of a checkpoint, for whoever separates with it."""

from __future__ import annotations

from pathlib import Path

from vrtool.audio.spectrogram import StftSpec
from vrtool.model.checkpoint import checkpoint_model, find_checkpoint, load_checkpoint
from vrtool.model.device import pick_device
from vrtool.model.network import Network


def load_trained(path: str | Path, device: str) -> tuple[Network, StftSpec]:
    """Return a checkpoint's network, on the CPU, and the spectrogram that it was trained on.

    `path` is a file, or the folder of a run, whose best one is taken; `device` is where the network is to go. Raises
    InputError if that device is missing, CheckpointError if there is no checkpoint or it is damaged.
    """
    pick_device(device)  # a missing GPU is worth saying before a large file is read
    checkpoint = load_checkpoint(find_checkpoint(Path(path)))
    return checkpoint_model(checkpoint), checkpoint.stft
