"""Deep Boltzmann machines small enough to be enumerated."""

import torch

from deepforward.models.energy import DeepBoltzmannMachine
from deepforward.models.energy.enumeration import all_states

SHAPES = [(4, (3, 2)), (3, (2, 3, 2)), (2, (2, 2, 2, 1))]


def machine(visible, hidden, seed=0, scale=1.0, learn=False):
    """A machine of random weights, biases and bases, in float64: an identity is then tested to its last digits."""
    rng = torch.Generator().manual_seed(seed)
    model = DeepBoltzmannMachine((visible,), hidden=hidden).double().requires_grad_(learn)
    with torch.no_grad():
        for values in (*model.parameters(), *model.buffers()):
            values.copy_(torch.randn(values.shape, generator=rng, dtype=torch.float64) * scale)
    return model


def every(model):
    """All joint states, one tensor a layer."""
    sizes = [units.size for units in model.layers]
    return torch.cat(list(all_states(sum(sizes), like=torch.zeros((), dtype=torch.float64)))).split(sizes, 1)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)
