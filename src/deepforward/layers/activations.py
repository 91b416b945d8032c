"""Activation modules by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from deepforward.errors import UnknownName

#: Name -> constructor without arguments.
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "leaky-relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "hard-tanh": nn.Hardtanh,
    "identity": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """A new activation module.

    Args:
        name: A key of `ACTIVATIONS`.

    Returns:
        A module of its own for each use, so that an instrument sees each use under its own name.

    Raises:
        UnknownName: No such activation; the message offers neighbours.
    """
    if name not in ACTIVATIONS:
        raise UnknownName("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
