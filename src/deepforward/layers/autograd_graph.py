"""The operations behind a tensor, in the order in which a pass made them."""

from __future__ import annotations

from torch.autograd.graph import Node


def from_root(root: Node) -> list[Node]:
    """All operations behind `root`, each before those that it got its arguments from."""
    finished: list[Node] = []
    seen: set[Node] = set()
    pending: list[tuple[Node, bool]] = [(root, False)]
    while pending:
        node, left = pending.pop()
        if left:
            finished.append(node)
        elif node not in seen:
            seen.add(node)
            pending.append((node, True))
            pending += [(child, False) for child, _ in node.next_functions if child is not None and child not in seen]
    return finished[::-1]
