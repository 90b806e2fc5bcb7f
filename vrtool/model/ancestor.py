"""The ancestor's weights as our checkpoints: carperbr/vocal-remover-frame-transformer of May 2022 and its older names.

The ancestor saved a plain state dict and nothing else. Every size is read off the tensors' shapes; sample rate and hop,
which no shape tells, are those that it was always used with unless told: 44.1 kHz and half a window.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vrtool.audio.spectrogram import StftSpec
from vrtool.errors import CheckpointError, InputError
from vrtool.model.checkpoint import Checkpoint
from vrtool.model.config import ModelConfig
from vrtool.model.fitting import require_network

SAMPLE_RATE = 44100

# A tensor's name begins with the level, or a part of it that has no number. The ancestor
# counts levels from one, and on the way up calls them after where they lead; we count from zero, where they stand.
LEVELS: dict[str, str] = {
    "enc1.body": "encoders.0.convolutions.0",
    **{
        f"enc{level + 1}.conv{index + 1}.body": f"encoders.{level}.convolutions.{index}"
        for level in range(1, 5)
        for index in range(2)
    },
    **{f"enc{level + 1}_transformer": f"encoders.{level}.blocks" for level in range(5)},
    **{f"dec{level}_transformer": f"decoders.{level}.blocks" for level in range(1, 5)},
    "out_transformer": "decoders.0.blocks",
    **{f"dec{level}.conv.body": f"ascents.{level - 1}.convolution" for level in range(1, 5)},
    "out": "output",
}

# What follows in a frame convolution, and in a block on either way.
CONVOLUTION_PARTS = {"0": "convolution", "1": "norm"}
ENCODER_PARTS = {
    "in_project": "bottleneck",
    "norm1": "gate.norm",
    "glu.0": "gate.layer.linear",
    "norm2": "branches.norm",
    "conv1L": "branches.layer.wide",
    "conv1R": "branches.layer.narrow",
    "norm3": "branches.layer.norm",
    "conv1M.0": "branches.layer.merge.depthwise",
    "conv1M.1": "branches.layer.merge.pointwise",
    "norm4": "self_attention.norm",
    "attn": "self_attention.layer",
    "norm5": "feedforward.norm",
    "conv2": "feedforward.layer.inward",
    "conv3": "feedforward.layer.outward",
}
DECODER_PARTS = {
    "in_project": "bottleneck",
    "skip_project": "skip_bottleneck",
    "norm1": "parallel_attention.norm",
    "self_attn1": "parallel_attention.layer.self_attention",
    "skip_attn1": "parallel_attention.layer.skip_attention",
    "enc_attn1": "parallel_attention.layer.skip_attention",
    "norm2": "branches.norm",
    "conv1L.0": "branches.layer.wide.depthwise",
    "conv1L.1": "branches.layer.wide.pointwise",
    "conv1R.0": "branches.layer.narrow.depthwise",
    "conv1R.1": "branches.layer.narrow.pointwise",
    "norm3": "branches.layer.norm",
    "conv2.0": "branches.layer.merge.depthwise",
    "conv2.1": "branches.layer.merge.pointwise",
    "norm4": "self_attention.norm",
    "self_attn2": "self_attention.layer",
    "norm5": "skip_attention.norm",
    "skip_attn2": "skip_attention.layer",
    "enc_attn2": "skip_attention.layer",
    "norm6": "feedforward.norm",
    "conv3": "feedforward.layer.inward",
    "conv4": "feedforward.layer.outward",
}
ATTENTION_PARTS = {
    "er": "position.table",
    **{f"{part[0]}_proj": f"{part}.linear" for part in ("query", "key", "value")},
    **{f"{part[0]}_conv": f"{part}.depthwise" for part in ("query", "key", "value")},
    "o_proj": "output",
}

BLOCK_NAME = re.compile(r"(?P<level>(?P<way>enc|dec|out)\d?_transformer)\.(?P<index>\d+)\.(?P<rest>.+)")


def _with_attention(parts: Mapping[str, str]) -> dict[str, str]:
    """Return `parts` with the names of everything inside their attentions."""
    inside = {
        f"{name}.{theirs}": f"{ours}.{part}"
        for name, ours in parts.items()
        if "attn" in name
        for theirs, part in ATTENTION_PARTS.items()
    }
    return inside | dict(parts)


BLOCK_PARTS = {
    "enc": _with_attention(ENCODER_PARTS),
    "dec": _with_attention(DECODER_PARTS),
    "out": _with_attention(DECODER_PARTS),
}


def our_name(name: str) -> str | None:
    """Return what we call the ancestor's tensor `name`, of either generation of names; None if we do not know it."""
    block = BLOCK_NAME.fullmatch(name)
    if block is None:
        stem, _, leaf = name.rpartition(".")
        level, _, number = stem.rpartition(".")
        if stem in LEVELS:
            return f"{LEVELS[stem]}.{leaf}"
        if level in LEVELS and number in CONVOLUTION_PARTS:
            return f"{LEVELS[level]}.{CONVOLUTION_PARTS[number]}.{leaf}"
        return None
    parts, rest = BLOCK_PARTS[block["way"]], block["rest"]
    # The position table is a parameter of its own; everything else belongs to a layer as its weight or bias.
    stem, dot, leaf = (rest, "", "") if rest in parts else rest.rpartition(".")
    if stem not in parts or block["level"] not in LEVELS:
        return None
    return f"{LEVELS[block['level']]}.{block['index']}.{parts[stem]}{dot}{leaf}"


def our_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the ancestor's tensors under our names and in our shapes.

    KeyError with the names that we do not know, or that another one, of the other generation, stands for as well.
    """
    weights: dict[str, Tensor] = {}
    strange = []
    for name, tensor in state.items():
        ours = our_name(name)
        if ours is None or ours in weights:
            strange.append(name)
        else:
            weights[ours] = _our_shape(ours, tensor)
    if strange:
        raise KeyError(*strange)
    return weights


def _our_shape(name: str, tensor: Tensor) -> Tensor:
    """Return `tensor` as our layer takes it; one of another number of axes is left as it is."""
    if name.endswith("convolution.weight") and tensor.ndim == 4:
        return tensor.transpose(2, 3).contiguous()  # the kernel over bins is ours' second, theirs' first axis
    if name.endswith("pointwise.weight") and tensor.ndim == 3:
        return tensor.squeeze(-1)  # a convolution over one frame is a linear map
    return tensor


def import_ancestor(
    path: Path,
    *,
    n_fft: int | None = None,
    num_bands: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    hop_length: int | None = None,
) -> Checkpoint:
    """Return the ancestor's state dict in the file `path` as one of our checkpoints.

    `n_fft` and `num_bands` are needed only for what the tensors do not tell: a network without any transformer block.
    `sample_rate` is in Hz, `hop_length` in samples, by default half of n_fft. The file is opened weights-only, so that
    nothing in it can run. Raises CheckpointError if it holds anything else than the ancestor's weights, all finite, or
    if a size that was given is not the tensors'; InputError for an STFT that cannot be.
    """
    state = _read_state(path)
    try:
        weights = our_weights(state)
    except KeyError as error:
        raise CheckpointError(
            f"{path} does not hold the ancestor's frame transformer: unknown or doubled tensors "
            f"{', '.join(error.args[:3])}"
        ) from error
    config = _infer_config(path, weights, n_fft, num_bands)
    require_network(weights, config, str(path))
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path} is of no use: {name} holds values that are not finite")
    stft = StftSpec(sample_rate=sample_rate, n_fft=config.n_fft, hop_length=hop_length or config.n_fft // 2)
    return Checkpoint(weights=weights, model=config, stft=stft, card={"imported_from": path.name})


def _read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict in `path`, the prefix that torch's data parallelism adds removed."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a .pth file of the ancestor")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises for a damaged pickle depends on the byte that is wrong
        raise CheckpointError(
            f"{path} is damaged or is not a plain state dict as torch.save writes it ({type(error).__name__})"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError(f"{path} holds something else than named tensors; give a .pth file of the ancestor")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _infer_config(path: Path, weights: Mapping[str, Tensor], n_fft: int | None, num_bands: int | None) -> ModelConfig:
    """Return the settings that `weights` (ours by name) were made with, as far as possible from the tensors' shapes."""
    first = weights.get("encoders.0.convolutions.0.convolution.weight")
    if first is None or first.ndim != 4:
        raise CheckpointError(f"{path} does not hold the ancestor's frame transformer: enc1.body.0.weight is missing")
    sizes = _block_sizes(path, weights) or {"position": "rotary"}
    for name, given in (("n_fft", n_fft), ("num_bands", num_bands)):
        if given is not None and sizes.setdefault(name, given) != given:
            raise CheckpointError(f"{path} was made with {name} {sizes[name]}, found {given}; leave the option out")
    if "n_fft" not in sizes:
        raise CheckpointError(f"{path} has no transformer blocks, whose shapes tell n_fft; give n_fft, usually 2048")
    try:
        return ModelConfig(
            **{"num_bands": 1, **sizes},  # type: ignore[arg-type]
            channels=first.shape[0],
            num_channels=first.shape[1],
            num_encoders=_count_blocks(weights, "encoders.0.blocks"),
            num_decoders=_count_blocks(weights, "decoders.0.blocks"),
            compression=1.0,
        )
    except InputError as error:
        raise CheckpointError(f"{path} has sizes that make no network: {error}") from error


def _block_sizes(path: Path, weights: Mapping[str, Tensor]) -> dict[str, int | bool | str]:
    """Return the settings that a block of the finest level tells; none if there is no block."""
    for block in ("encoders.0.blocks.0", "decoders.0.blocks.0"):
        inward = weights.get(f"{block}.feedforward.layer.inward.weight")
        table = weights.get(f"{block}.self_attention.layer.position.table")
        if inward is not None and table is not None:
            shapes = tuple(inward.shape), tuple(table.shape)
            if any(len(shape) != 2 or 0 in shape for shape in shapes):
                raise CheckpointError(
                    f"{path} tells no sizes: {block} has matrices of shapes {shapes[0]} and {shapes[1]}"
                )
            feedforward_dim, num_bins = inward.shape
            head_width, crop_frames = table.shape
            return {
                "n_fft": 2 * num_bins,
                "num_bands": num_bins // head_width,
                "feedforward_dim": feedforward_dim,
                "crop_frames": crop_frames,
                "bias": f"{block}.bottleneck.bias" in weights,
                "position": "ancestor",
            }
    return {}


def _count_blocks(weights: Mapping[str, Tensor], blocks: str) -> int:
    return len({name.removeprefix(f"{blocks}.").split(".")[0] for name in weights if name.startswith(f"{blocks}.")})
