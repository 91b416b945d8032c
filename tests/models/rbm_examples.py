"""Restricted Boltzmann machines small enough to be enumerated, in float64, and their sums written out."""

import itertools
import math

import torch

from deepforward.models.energy import RBM

VISIBLE = {"binary": {}, "gaussian": {"learn_precision": True}, "softmax": {"categories": 3}}
KINDS = [(visible, hidden) for visible in VISIBLE for hidden in ("binary", "relu") if (visible, hidden) != ("gaussian", "relu")]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def binary_states(units):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)), dtype=torch.float64)


def machine(visible="binary", hidden_kind="binary", *, size=6, hidden=4, seed=0, dtype=torch.float64):
    """Weights and biases of size 1, so that no conditional is near 0, 1/2 or 1 by accident."""
    rbm = RBM((size,), visible=visible, hidden_kind=hidden_kind, hidden=hidden, **VISIBLE[visible]).to(dtype)
    rng = generator(seed)
    with torch.no_grad():
        for value in [*rbm.parameters(), rbm.visible_units.base]:
            value.copy_((0.4 if hidden_kind == "relu" else 1.0) * torch.randn(value.shape, generator=rng))
    return rbm


def visible_states(rbm, kind):
    """Every visible state, or for real units a few."""
    if kind == "binary":
        return binary_states(rbm.visible_units.size)
    if kind == "softmax":
        one_hot = torch.eye(3, dtype=torch.float64)
        return torch.stack([torch.cat((a, b)) for a in one_hot for b in one_hot])
    return torch.randn(5, rbm.visible_units.size, generator=generator(8), dtype=torch.float64)


def plain_energy(rbm, v, h, beta=1.0):
    """E(v, h) written out, without a method of the model."""
    b, c = rbm.visible_units.bias_at(beta), rbm.hidden_units.bias_at(beta)
    energy = -beta * torch.einsum("ri,ij,sj->rs", v, rbm.weight, h) - (v @ b)[:, None] - (h @ c)[None]
    if hasattr(rbm.visible_units, "log_precision"):
        energy = energy + 0.5 * (v.square() @ rbm.visible_units.log_precision.exp())[:, None]
    return energy


def exact_log_partition(rbm, kind):
    """log Z over all binary hidden states with the visible units summed (integrated) one by one; differentiable."""
    h = binary_states(rbm.hidden_units.size)
    total = h @ rbm.weight.T + rbm.visible_units.bias
    if kind == "gaussian":
        precision = rbm.visible_units.log_precision.exp()
        each = (total.square() / precision + math.log(2 * math.pi) - precision.log()) / 2
    elif kind == "binary":
        each = torch.logaddexp(total, torch.zeros_like(total))
    else:
        each = total.reshape(len(h), -1, 3).logsumexp(2)
    return (each.sum(1) + h @ rbm.hidden_units.bias).logsumexp(0)
