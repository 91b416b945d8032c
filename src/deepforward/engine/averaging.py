"""A running mean of the weights, which is steadier than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

#: Steps between two updates of the mean, and before the first; what lies between hardly differs.
EVERY = 10


@torch.no_grad()
def update(averages: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """Let the means follow the trained parameters, or begin with them; at first the mean is short, lest it remember the start.

    Buffers have no mean: to a stranger's module they may be anything, a mask of infinities too.

    Args:
        averages: Mean by parameter name, changed in place.
        model: The model that is being trained.
        decay: Share of the old that a step keeps, in [0, 1).
        step: Steps done.

    Source: Polyak and Juditsky 1992, Acceleration of stochastic approximation by averaging.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not averages:
        averages |= {name: p.detach().clone() for name, p in named.items()}
        return
    kept = min(decay**EVERY, (1 + step) / (10 * EVERY + step))
    torch._foreach_lerp_(list(averages.values()), [named[name].detach() for name in averages], 1 - kept)


@contextmanager
def averaged(model: nn.Module, averages: Mapping[str, Tensor]) -> Iterator[None]:
    """The model with its means for weights, for the block; with its own, where there are no means yet."""
    if not averages:
        yield
        return
    own = {name: model.get_parameter(name).detach().clone() for name in averages}
    _put(model, averages)
    try:
        yield
    finally:
        _put(model, own)


@torch.no_grad()
def _put(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        model.get_parameter(name).copy_(value)
