"""Activations that training does not keep but computes again on its way back: less memory for more time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(part: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Return part(*inputs), of which nothing but the inputs is kept for the backward pass.

    Dropout draws the same again, and batch norm counts the batch once. Where no gradient is asked for, and in a
    compiled network, whose compiler chooses by itself what to keep, it is an ordinary call.
    """
    y: Tensor
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        y = part(*inputs)
    else:
        y = checkpoint(part, *inputs, use_reentrant=False, context_fn=partial(_contexts, part))
    return y


def _contexts(part: Callable[..., Tensor]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what the part runs in the first time, and again."""
    return nullcontext(), _uncounted(part) if isinstance(part, nn.Module) else nullcontext()


@contextmanager
def _uncounted(part: nn.Module) -> Iterator[None]:
    """Let batch norms normalise with the batch at hand but leave their statistics as they are."""
    norms = [module for module in part.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = torch.zeros(())
    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches
