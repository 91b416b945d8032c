"""Stacks of restricted Boltzmann machines, each on the hidden units of the one below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from deepforward.errors import InvalidOption
from deepforward.models.energy.rbm import RBM


def machines(model: str, input_shape: tuple[int, ...], hidden: Sequence[int], weight_scale: float = 0.01) -> nn.ModuleList:
    """Machines of binary units from the data up.

    Args:
        model: Name of the model, for messages.
        input_shape: Shape of one example.
        hidden: Hidden units of each.
        weight_scale: Standard deviation of the first weights.

    Raises:
        InvalidOption: No hidden layer, or a size below 1.
    """
    sizes = layer_sizes(model, hidden, least=1)
    shapes = [tuple(input_shape), *((size,) for size in sizes)]
    return nn.ModuleList(RBM(shape, hidden=size, weight_scale=weight_scale) for shape, size in zip(shapes, sizes, strict=False))


def layer_sizes(model: str, hidden: Any, least: int) -> tuple[int, ...]:
    """The sizes of the hidden layers, checked.

    Raises:
        InvalidOption: Fewer than `least` layers, or a size that is no whole number of at least 1.
    """
    example = [100 * (i + 1) for i in range(max(least, 2))]
    if not isinstance(hidden, Sequence) or isinstance(hidden, str) or len(hidden) < least:
        raise InvalidOption(f"{model} got hidden={hidden!r}; expected at least {least} sizes of layers, for example {example}")
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in hidden):
        raise InvalidOption(f"{model} got hidden={list(hidden)}; expected whole numbers of at least 1, for example {example}")
    return tuple(hidden)
