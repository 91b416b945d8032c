"""From which places of its input a network computes a unit, read from the graph of one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from deepforward.instruments.reach_rules import Reach, Span, Step, UnknownOperation, every, through, union
from deepforward.layers.autograd_graph import from_root


def reach_along(unit: Tensor, start: Tensor, dimension: int, along: int) -> Span:
    """Which indices along a dimension of `start` each index along a dimension of `unit` is computed from.

    Padding counts as if the input went on there, so that indices below 0 and beyond the last occur.

    Args:
        unit: Tensor with its graph, examples first.
        start: The leaf it was computed from.
        dimension: Dimension of `start`.
        along: Dimension of `unit`; of the others all indices together are taken.

    Returns:
        First and last index, (2, size of `unit` along its dimension).

    Raises:
        UnknownOperation: The graph has an operation that is not known here, or the two do not depend on each other.

    Source:
        Araujo, Norris, Sim 2019, Computing receptive fields of convolutional neural networks, Distill (spans of sequences).
    """
    if not unit.requires_grad:
        raise UnknownOperation("the unit depends on nothing")
    count = unit.shape[along]
    reach = [every(size, count) for size in unit.shape]
    reach[along] = np.tile(np.arange(count, dtype=np.float64), (2, 1))
    root, target = get_gradient_edge(unit).node, get_gradient_edge(start).node
    order = from_root(root)
    leading = _leading_to(target, order)
    if root not in leading:
        raise UnknownOperation("the unit does not depend on the input")
    reached: dict[Node, Reach] = {root: reach}
    for node in order:
        if node is target:
            return reached[node][dimension]
        if node not in leading or node not in reached:
            continue
        children = [(child, which) for child, which in node.next_functions]
        given = tuple(_shape(child, which) if child in leading else None for child, which in children)
        step = Step(node, reached[node], _shape(node, 0), given)
        for (child, _), found in zip(children, through(step), strict=True):
            if child in leading and child is not None and found is not None:
                before = reached.get(child)
                reached[child] = found if before is None else [union(a, b) for a, b in zip(before, found, strict=True)]
    raise UnknownOperation("the unit does not depend on the input")


def _leading_to(target: Node, order: Sequence[Node]) -> set[Node]:
    leading = {target}
    for node in reversed(order):
        if any(child in leading for child, _ in node.next_functions):
            leading.add(node)
    return leading


def _shape(node: Any, which: int) -> tuple[int, ...]:
    return tuple(node._input_metadata[which].shape)
