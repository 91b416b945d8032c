"""Small networks and patterns of random signs, for the tests of both Hopfield networks."""

import torch
from hypothesis import strategies as st

from deepforward.models.energy import Hopfield

seeds = st.integers(0, 2**31)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def signs(*shape, rng):
    return 2 * torch.randint(2, shape, generator=rng) - 1


def network(patterns, rule="hebb", bias=None):
    net = Hopfield(patterns.shape[1], bias)
    net.store(patterns, rule)
    return net
