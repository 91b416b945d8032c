"""Layers that are connected with their neighbours only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from deepforward.models.energy.products import product
from deepforward.models.energy.units import BinaryUnits


def received(
    values: Mapping[int, Tensor] | Sequence[Tensor],
    layer: int,
    weights: Sequence[Tensor],
    below: Tensor | None = None,
) -> Tensor:
    """What a layer receives from its neighbours, without its bias; `below`, if given, is the part from the lower one."""
    if layer == 1 and below is not None:
        from_below: Tensor | None = below
    else:
        from_below = product(values[layer - 1], weights[layer - 1]) if layer else None
    if layer == len(weights):
        assert from_below is not None
        return from_below
    from_above = product(values[layer + 1], weights[layer].t())
    return from_above if from_below is None else from_above + from_below


def even_layers(layers: Sequence[object]) -> range:
    """The data, the second hidden layer, and so on: independent of each other given the odd ones."""
    return range(0, len(layers), 2)


def odd_layers(layers: Sequence[object]) -> range:
    """The first hidden layer, the third, and so on: independent of each other given the even ones."""
    return range(1, len(layers), 2)


def by_layer(values: Tensor, layers: Sequence[BinaryUnits], side: Sequence[int]) -> dict[int, Tensor]:
    """Values of some layers that lie side by side in one tensor, by layer."""
    return dict(zip(side, values.split([layers[k].size for k in side], 1), strict=True))
