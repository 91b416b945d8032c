"""Boltzmann machines small enough to be enumerated, in float64, and their energy written out."""

import itertools

import pytest
import torch

from deepforward.models.energy import BoltzmannMachine


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def machine(visible, hidden=0, *, scale=1.0, seed=0, connectivity=None, dtype=torch.float64):
    """Weights and biases normal with standard deviation `scale`."""
    model = BoltzmannMachine((visible,), hidden=hidden, connectivity=connectivity).to(dtype)
    rng = generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    return model


def without_hidden_connections(visible, hidden):
    connected = ~torch.eye(visible + hidden, dtype=torch.bool)
    connected[visible:, visible:] = False
    return connected


def double_sum(model, x):
    """-b·x - sum over i < j of w_ij x_i x_j, pair by pair."""
    total = -sum(model.bias[i] * x[:, i] for i in range(model.num_units))
    return total - sum(model.weight[i, j] * x[:, i] * x[:, j] for i, j in itertools.combinations(range(model.num_units), 2))


def states(count):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=count)), dtype=torch.float64)


def split(model, x):
    return x[:, : model.num_visible], x[:, model.num_visible :]


#: (visible, hidden, connectivity): without hidden units, with connected ones, and with independent ones.
FORMS = [(5, 0, None), (4, 3, None), (4, 3, without_hidden_connections(4, 3))]
forms = pytest.mark.parametrize(("visible", "hidden", "connectivity"), FORMS, ids=["visible", "connected", "independent"])
