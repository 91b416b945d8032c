"""Exact probabilities of a deep Boltzmann machine, by enumeration of every other layer.

Layers are units from the visible ones up, weights lie between neighbouring ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.models.energy.enumeration import all_states
from deepforward.models.energy.neighbours import by_layer, even_layers, odd_layers, received
from deepforward.models.energy.units import BinaryUnits


def log_unnormalised(
    visible: Float[Tensor, "batch units"], layers: Sequence[BinaryUnits], weights: Sequence[Tensor]
) -> Float[Tensor, " batch"]:
    """Log p(v) + log Z, by enumeration of the odd layers, nats.

    Raises:
        TooLarge: There are too many states.
    """
    first, odd = visible @ weights[0], odd_layers(layers)
    parts = []
    for values in _states(layers, weights, odd):
        rest = -sum((layers[k].energy(values[k]) for k in odd), visible.new_zeros(()))
        hidden = [layers[k].log_normalizer(received(values, k, weights)) for k in even_layers(layers)[1:]]
        parts.append((first @ values[1].t() + rest + sum(hidden, visible.new_zeros(()))).double().logsumexp(1))
    return torch.stack(parts).logsumexp(0) - layers[0].energy(visible)


def log_partition(layers: Sequence[BinaryUnits], weights: Sequence[Tensor]) -> float:
    """Log Z by enumeration of the odd or the even layers, whichever have fewer units, nats.

    Raises:
        TooLarge: They have too many.
    """
    sides = (even_layers(layers), odd_layers(layers))
    side, other = sorted(sides, key=lambda numbers: sum(layers[k].size for k in numbers))
    parts = []
    for values in _states(layers, weights, side):
        logs = [layers[k].log_normalizer(received(values, k, weights)).double() for k in other]
        logs += [-layers[k].energy(values[k]).double() for k in side]
        parts.append(torch.stack(logs).sum(0))
    return float(torch.cat(parts).logsumexp(0))


def _states(layers: Sequence[BinaryUnits], weights: Sequence[Tensor], side: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """All states of the layers of one side, in chunks, by layer."""
    work = sum(weight.numel() for weight in weights)
    for states in all_states(sum(layers[k].size for k in side), work, weights[0]):
        yield by_layer(states, layers, side)
