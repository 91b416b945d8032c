"""A network of your own, trained and diagnosed without changing it.

    deepforward train examples/own_network.py:tower --data digits --epochs 2 --set depth=30

A factory may take `input_shape` and `num_outputs` by name, and gets them from the data; everything else comes from `--set`.
"""

from torch import nn


def tower(input_shape: tuple[int, ...], num_outputs: int, depth: int = 8, width: int = 48) -> nn.Module:
    """Sigmoid upon sigmoid, as PyTorch initialises it: the deeper, the less the first layers hear of the loss."""
    features = 1
    for length in input_shape:
        features *= length
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(features, width)]
    for _ in range(depth - 2):
        layers += [nn.Sigmoid(), nn.Linear(width, width)]
    return nn.Sequential(*layers, nn.Sigmoid(), nn.Linear(width, num_outputs))
