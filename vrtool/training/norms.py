"""Batch norm's running statistics where several processes did the passes of a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vrtool.training.distributed import World


def merge_norms(network: nn.Module, before: Sequence[Tensor], num_passes: int, world: World) -> None:
    """Give all processes the statistics that one alone would have after all passes of a step.

    `before` are the network's buffers as they were before it. Each of the processes did its `own_share` of the
    `num_passes` passes, in that order, from there.
    """
    if world.size == 1:
        return
    old = dict(zip((name for name, _ in network.named_buffers()), before, strict=True))
    norms = [
        (name, part) for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d) and part.training
    ]
    if not norms:
        return
    own = world.own_share(num_passes)
    ours = [
        _contribution(norm, current, old[f"{name}.{statistic}"], own, num_passes)
        for name, norm in norms
        for statistic, current in _statistics(norm).items()
    ]
    merged = iter(torch.split(world.sum(torch.cat(ours)), [contribution.numel() for contribution in ours]))
    for name, norm in norms:
        for statistic, current in _statistics(norm).items():
            current.copy_(_kept(norm, num_passes) * old[f"{name}.{statistic}"] + next(merged))
        assert norm.num_batches_tracked is not None, "a norm that trains counts"
        norm.num_batches_tracked += num_passes - len(own)


def _statistics(norm: nn.BatchNorm2d) -> dict[str, Tensor]:
    assert norm.running_mean is not None, "networks here keep statistics"
    assert norm.running_var is not None, "networks here keep statistics"
    return {"running_mean": norm.running_mean, "running_var": norm.running_var}


def _contribution(norm: nn.BatchNorm2d, current: Tensor, old: Tensor, own: range, num_passes: int) -> Tensor:
    """Return the part of the merged statistic that is this process's own passes'.

    A pass makes (1 - m) s + m x of a statistic s with what x it measures, m being the momentum: after all passes that
    is (1 - m)^n of the old one plus a term for each x, which the passes after it have made smaller.
    """
    return (current - _kept(norm, len(own)) * old) * _kept(norm, num_passes - own.stop)


def _kept(norm: nn.BatchNorm2d, num_passes: int) -> float:
    """Return what share of a statistic so many passes leave."""
    assert norm.momentum is not None, "networks here forget at a fixed rate"
    return float((1.0 - norm.momentum) ** num_passes)
