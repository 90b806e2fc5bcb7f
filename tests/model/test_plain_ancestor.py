"""The network at sizes that no reference vector has, against a plain second implementation of the ancestor.

The second implementation works on the ancestor's own tensors by their own names, in the layouts (B, C, F, T) and
(B, F, T), with einsum and torch's ordinary convolutions; it shares no code with vrtool. That it is right itself is what
the reference vectors prove.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from vrtool.audio.spectrogram import StftSpec
from vrtool.model import ModelConfig
from vrtool.model.ancestor import our_weights
from vrtool.model.checkpoint import Checkpoint, checkpoint_model

State = dict[str, Tensor]

DATA = Path(__file__).parent / "data"


def linear(state: State, name: str, x: Tensor) -> Tensor:
    y = torch.einsum("of,bft->bot", state[f"{name}.weight"], x)
    return y + state[f"{name}.bias"][:, None] if f"{name}.bias" in state else y


def convolution(state: State, name: str, x: Tensor) -> Tensor:
    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
    groups = x.shape[1] // weight.shape[1]
    return functional.conv1d(x, weight, bias, padding=weight.shape[2] // 2, groups=groups)


def separable(state: State, name: str, x: Tensor) -> Tensor:
    return convolution(state, f"{name}.1", convolution(state, f"{name}.0", x))


def norm(state: State, name: str, x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
    normed = (x - mean) / (variance + 1e-5).sqrt()
    return normed * state[f"{name}.weight"][:, None] + state[f"{name}.bias"][:, None]


def attention(state: State, name: str, x: Tensor, memory: Tensor) -> Tensor:
    table = state[f"{name}.er"]
    num_bins, width = x.shape[1], table.shape[0]
    gathered = []
    query, key, value = (
        convolution(state, f"{name}.{part}_conv", linear(state, f"{name}.{part}_proj", source))
        for part, source in (("q", x), ("k", memory), ("v", memory))
    )
    for start in range(0, num_bins, width):
        band = slice(start, start + width)
        q, k, v = query[:, band], key[:, band], value[:, band]
        # Query frame i, key frame j.
        logits = torch.einsum("bdi,bdj->bij", q, k) + torch.einsum("bdj,di->bij", q, table)
        shares = torch.softmax(logits / num_bins**0.5, dim=2)
        gathered.append(torch.einsum("bij,bdj->bdi", shares, v))
    return linear(state, f"{name}.o_proj", torch.cat(gathered, dim=1))


def added(wide: Tensor, narrow: Tensor) -> Tensor:
    wide = wide.clone()
    wide[:, : narrow.shape[1]] += narrow
    return wide


def feedforward(state: State, block: str, inward: str, outward: str, x: Tensor) -> Tensor:
    return linear(state, f"{block}.{outward}", torch.relu(linear(state, f"{block}.{inward}", x)) ** 2)


def bottleneck(state: State, name: str, features: Tensor) -> Tensor:
    x = torch.einsum("c,bcft->bft", state[f"{name}.weight"][0], features)
    return x + state[f"{name}.bias"] if f"{name}.bias" in state else x


def encoder_block(state: State, block: str, features: Tensor) -> Tensor:
    x = bottleneck(state, f"{block}.in_project", features)
    value, gate = linear(state, f"{block}.glu.0", norm(state, f"{block}.norm1", x)).chunk(2, dim=1)
    x = x + value * torch.sigmoid(gate)
    h = norm(state, f"{block}.norm2", x)
    wide = torch.relu(linear(state, f"{block}.conv1L", h))
    narrow = torch.relu(convolution(state, f"{block}.conv1R", h))
    x = x + separable(state, f"{block}.conv1M", norm(state, f"{block}.norm3", added(wide, narrow)))
    h = norm(state, f"{block}.norm4", x)
    x = x + attention(state, f"{block}.attn", h, h)
    return x + feedforward(state, block, "conv2", "conv3", norm(state, f"{block}.norm5", x))


def decoder_block(state: State, block: str, features: Tensor, skip: Tensor) -> Tensor:
    x = bottleneck(state, f"{block}.in_project", features)
    memory = bottleneck(state, f"{block}.skip_project", skip)
    h = norm(state, f"{block}.norm1", x)
    x = x + attention(state, f"{block}.self_attn1", h, h) + attention(state, f"{block}.skip_attn1", h, memory)
    h = norm(state, f"{block}.norm2", x)
    branches = added(torch.relu(separable(state, f"{block}.conv1L", h)), separable(state, f"{block}.conv1R", h))
    x = x + separable(state, f"{block}.conv2", norm(state, f"{block}.norm3", branches))
    h = norm(state, f"{block}.norm4", x)
    x = x + attention(state, f"{block}.self_attn2", h, h)
    x = x + attention(state, f"{block}.skip_attn2", norm(state, f"{block}.norm5", x), memory)
    return x + feedforward(state, block, "conv3", "conv4", norm(state, f"{block}.norm6", x))


def frame_convolution(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    x = functional.conv2d(x, state[f"{name}.0.weight"], stride=(stride, 1), padding=(1, 0))
    mean, variance, weight, bias = (
        state[f"{name}.1.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    x = (x - mean) / (variance + 1e-5).sqrt() * weight + bias
    return torch.where(x > 0, x, 0.01 * x)


def with_blocks(state: State, level: str, x: Tensor, block: Callable[[str, Tensor], Tensor]) -> Tensor:
    index = 0
    while f"{level}.{index}.in_project.weight" in state:
        x = torch.cat((x, block(f"{level}.{index}", x)[:, None]), dim=1)
        index += 1
    return x


def plain_mask(state: State, magnitude: Tensor) -> Tensor:
    x, skips = frame_convolution(state, "enc1.body", magnitude[:, :, :-1]), []
    for level in range(1, 6):
        if level > 1:
            x = frame_convolution(state, f"enc{level}.conv1.body", x)
            x = frame_convolution(state, f"enc{level}.conv2.body", x, stride=2)
        convolved = x
        x = with_blocks(state, f"enc{level}_transformer", x, lambda block, x: encoder_block(state, block, x))
        skips.append(x)
    x = convolved
    for level in (4, 3, 2, 1):
        x = with_decoder_blocks(state, f"dec{level}_transformer", x, skips[level])
        skip = skips[level - 1]
        x = functional.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=True)
        x = frame_convolution(state, f"dec{level}.conv.body", torch.cat((x, skip), dim=1))
    x = with_decoder_blocks(state, "out_transformer", x, skips[0])
    logits = torch.einsum("oc,bcft->boft", state["out.weight"], x) + state["out.bias"][:, None, None]
    mask = torch.sigmoid(logits)
    return torch.cat((mask, mask[:, :, -1:]), dim=2)


def with_decoder_blocks(state: State, level: str, x: Tensor, skip: Tensor) -> Tensor:
    return with_blocks(state, level, x, lambda block, x: decoder_block(state, block, x, skip))


def layer_shapes(name: str, shape: tuple[int, ...], *, bias: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def attention_shapes(name: str, bins: int, config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.er", (bins // config.num_bands, config.crop_frames)
    for part in "qkvo":
        yield from layer_shapes(f"{name}.{part}_proj", (bins, bins), bias=True)
    for part in "qkv":
        yield from layer_shapes(f"{name}.{part}_conv", (bins, 1, 3), bias=True)


def separable_shapes(
    name: str, inward: int, outward: int, kernel: int, *, bias: bool
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from layer_shapes(f"{name}.0", (inward, 1, kernel), bias=bias)
    yield from layer_shapes(f"{name}.1", (outward, inward, 1), bias=bias)


def encoder_shapes(name: str, width: int, bins: int, config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    wide, bias = config.feedforward_dim, config.bias
    yield from layer_shapes(f"{name}.in_project", (1, width), bias=bias)
    for index, size in enumerate((bins, bins, wide, bins, bins), start=1):
        yield from layer_shapes(f"{name}.norm{index}", (size,), bias=True)
    yield from layer_shapes(f"{name}.glu.0", (2 * bins, bins), bias=bias)
    yield from layer_shapes(f"{name}.conv1L", (wide, bins), bias=bias)
    yield from layer_shapes(f"{name}.conv1R", (wide // 4, bins, 3), bias=bias)
    yield from separable_shapes(f"{name}.conv1M", wide, bins, 9, bias=bias)
    yield from attention_shapes(f"{name}.attn", bins, config)
    yield from layer_shapes(f"{name}.conv2", (wide, bins), bias=bias)
    yield from layer_shapes(f"{name}.conv3", (bins, wide), bias=bias)


def decoder_shapes(
    name: str, width: int, skip_width: int, bins: int, config: ModelConfig
) -> Iterator[tuple[str, tuple[int, ...]]]:
    wide, bias = config.feedforward_dim, config.bias
    yield from layer_shapes(f"{name}.in_project", (1, width), bias=bias)
    yield from layer_shapes(f"{name}.skip_project", (1, skip_width), bias=bias)
    for index, size in enumerate((bins, bins, wide // 2, bins, bins, bins), start=1):
        yield from layer_shapes(f"{name}.norm{index}", (size,), bias=True)
    for part in ("self_attn1", "skip_attn1", "self_attn2", "skip_attn2"):
        yield from attention_shapes(f"{name}.{part}", bins, config)
    yield from separable_shapes(f"{name}.conv1L", bins, wide // 2, 11, bias=bias)
    yield from separable_shapes(f"{name}.conv1R", bins, wide // 4, 7, bias=bias)
    yield from separable_shapes(f"{name}.conv2", wide // 2, bins, 7, bias=bias)
    yield from layer_shapes(f"{name}.conv3", (wide, bins), bias=bias)
    yield from layer_shapes(f"{name}.conv4", (bins, wide), bias=bias)


def frame_convolution_shapes(name: str, inward: int, outward: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.0.weight", (outward, inward, 3, 1)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.1.{part}", (outward,)
    yield f"{name}.1.num_batches_tracked", ()


def network_shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    widths = [config.channels * factor for factor in (1, 2, 4, 6, 8)]
    encoders, decoders = config.num_encoders, config.num_decoders
    for level, width in enumerate(widths, start=1):
        if level == 1:
            yield from frame_convolution_shapes("enc1.body", config.num_channels, width)
        else:
            yield from frame_convolution_shapes(f"enc{level}.conv1.body", widths[level - 2] + encoders, width)
            yield from frame_convolution_shapes(f"enc{level}.conv2.body", width, width)
        bins = config.n_fft // 2**level
        for index in range(encoders):
            yield from encoder_shapes(f"enc{level}_transformer.{index}", width + index, bins, config)
        up = f"dec{level - 1}" if level > 1 else "out"
        for index in range(decoders):
            name = f"{up}_transformer.{index}"
            yield from decoder_shapes(name, width + index, width + encoders, bins, config)
        if level > 1:
            above = widths[level - 2]
            yield from frame_convolution_shapes(f"{up}.conv.body", width + decoders + above + encoders, above)
    yield from layer_shapes("out", (config.num_channels, widths[0] + decoders), bias=True)


def random_state(config: ModelConfig, generator: torch.Generator) -> State:
    state = {}
    for name, shape in network_shapes(config):
        fan_in = max(1, int(torch.tensor(shape[1:]).prod()))
        tensor = torch.randn(shape, generator=generator) * fan_in**-0.5
        if name.endswith("running_var"):
            tensor = tensor.abs() + 0.5
        state[name] = torch.tensor(0) if name.endswith("num_batches_tracked") else tensor
    return state


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_plain_implementation_gives_the_reference_mask(name: str) -> None:
    tensors = load_file(DATA / f"ancestor_{name}.safetensors")
    state = {key.removeprefix("weights/"): value for key, value in tensors.items()}
    torch.testing.assert_close(plain_mask(state, tensors["magnitude"]), tensors["mask"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(num_channels=1, channels=3, num_encoders=0, num_decoders=2, n_fft=64, num_bands=1, bias=True),
        ModelConfig(num_channels=2, channels=2, num_encoders=3, num_decoders=0, n_fft=192, num_bands=2, bias=False),
        ModelConfig(num_channels=2, channels=1, num_encoders=2, num_decoders=3, n_fft=192, num_bands=3, bias=True),
        ModelConfig(num_channels=3, channels=5, num_encoders=1, num_decoders=2, n_fft=256, num_bands=8, bias=False),
    ],
    ids=lambda config: f"{config.num_encoders}-encoders-{config.num_decoders}-decoders",
)
def test_the_network_equals_the_plain_implementation_at_any_size(config: ModelConfig) -> None:
    config = replace(config, crop_frames=13, feedforward_dim=28, position="ancestor", compression=1.0)
    generator = torch.Generator().manual_seed(config.n_fft + config.channels)
    state = random_state(config, generator)
    magnitude = torch.rand(2, config.num_channels, config.num_bins, 13, generator=generator)
    checkpoint = Checkpoint(weights=our_weights(state), model=config, stft=StftSpec(n_fft=config.n_fft, hop_length=8))
    with torch.inference_mode():
        mask = checkpoint_model(checkpoint)(magnitude)
        torch.testing.assert_close(mask, plain_mask(state, magnitude), rtol=0, atol=1e-5)
    assert mask.std() > 0.01  # a network that says nothing would prove nothing
