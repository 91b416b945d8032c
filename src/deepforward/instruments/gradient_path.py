"""Places that every path of the gradient passes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from torch.autograd.graph import GradientEdge, Node

from deepforward.layers.autograd_graph import from_root

#: A tensor in the graph of a pass: the operation that made it, and which of its results it is.
_Place = tuple[Node, int]


def crossings(root: GradientEdge, target: GradientEdge | None, places: Sequence[GradientEdge]) -> list[int]:
    """Which places all paths from `root` back to `target` pass, so that the Jacobian is a product of factors between them.

    A place is one if the number of paths to it, times that of paths from it, is the number of all paths.

    Args:
        root: What is differentiated.
        target: What it is differentiated by; the first of the places that is reached where this is not, or is None.
        places: Tensors inside.

    Returns:
        Positions in `places`, from the target to the root, without repetition.
    """
    order = from_root(root.node)
    down: dict[_Place, int] = defaultdict(int, {(root.node, root.output_nr): 1})
    reached: dict[Node, int] = defaultdict(int, {root.node: 1})
    for node in order:
        for child, which in node.next_functions:
            if child is not None:
                down[child, which] += reached[node]
                reached[child] += reached[node]
    ends = [edge for edge in (target, *places) if edge is not None and reached[edge.node]]
    if not ends:
        return []
    goal = ends[0].node, ends[0].output_nr
    up: dict[Node, int] = {}
    for node in reversed(order):
        up[node] = sum(1 if edge == goal else up[edge[0]] for edge in node.next_functions if edge[0] is not None)
    found: dict[_Place, int] = {}
    for position, edge in enumerate(places):
        place = edge.node, edge.output_nr
        if down[place] and down[place] * (1 if place == goal else up[edge.node]) == down[goal]:
            found.setdefault(place, position)
    height = {node: at for at, node in enumerate(order)}
    return sorted(found.values(), key=lambda position: -height[places[position].node])
