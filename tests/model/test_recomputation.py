"""Recomputing activations changes memory, and nothing else; so do compiling and folding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vrtool.model import ModelConfig
from vrtool.model.frame_transformer import FrameTransformer

CONFIG = ModelConfig(n_fft=64, channels=2, num_bands=2, feedforward_dim=12, num_encoders=1, num_decoders=1, dropout=0.3)


def network() -> FrameTransformer:
    torch.manual_seed(0)
    return FrameTransformer(CONFIG)


def step(network: FrameTransformer) -> dict[str, Tensor]:
    """Return gradients and statistics after one training step, and what it kept for its backward pass."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        mask = network(torch.rand(2, 2, 33, 7))
    mask.square().sum().backward()  # type: ignore[no-untyped-call]
    result = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert len(result) == len(list(network.parameters()))
    return result | dict(network.named_buffers()) | {"kept": torch.tensor(len(kept))}


def test_recomputed_activations_give_the_same_gradients_and_statistics_and_keep_less() -> None:
    ordinary, recomputing = network(), network()
    recomputing.recompute_activations()
    expected, found = step(ordinary), step(recomputing)
    assert int(found.pop("kept")) < int(expected.pop("kept")) / 2
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=name)


def test_a_batch_is_counted_once() -> None:
    trained = network()
    step(trained)
    counts = [int(tensor) for name, tensor in trained.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts == [1] * 13


@pytest.mark.filterwarnings("default")  # torch's tracing calls what torch itself has deprecated
@pytest.mark.parametrize("training", [False, True])
def test_the_network_compiles_as_one_graph(training: bool) -> None:
    torch.manual_seed(0)
    ordinary = FrameTransformer(replace(CONFIG, num_decoders=0)).train(training)
    compiled = torch.compile(ordinary, backend="eager", fullgraph=True)
    x = torch.rand(2, 2, 33, 7)
    with torch.set_grad_enabled(training):
        torch.manual_seed(1)
        mask = compiled(x)
        torch.manual_seed(1)
        torch.testing.assert_close(mask, ordinary(x))
