"""Activation modules by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import UnknownName
from deepforward.layers.noisy_activation import NoisyHardSigmoid, NoisyHardTanh


class Step(nn.Module):
    """The threshold of McCulloch and Pitts: 1 where x >= 0, else 0. Its derivative is 0, so that nothing below it learns."""

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Zeros and ones, through operations whose derivative is zero rather than missing."""
        return (inputs.floor() + 1).clamp(0, 1)


class Erf(nn.Module):
    """erf(x), the sigmoid for which the mean field of wide networks has a closed form."""

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The error function, in (-1, 1)."""
        return torch.erf(inputs)


class Arctan(nn.Module):
    """arctan(x), which saturates like 1/x rather than exponentially."""

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The angle in radians, in (-pi/2, pi/2)."""
        return torch.atan(inputs)


#: Name -> constructor without arguments. Their derivatives are written out in `layers.derivatives`.
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,  # the name it was rediscovered under
    "leaky-relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "softplus": nn.Softplus,
    "hard-tanh": nn.Hardtanh,
    "hard-sigmoid": nn.Hardsigmoid,
    "noisy-hard-tanh": NoisyHardTanh,
    "noisy-hard-sigmoid": NoisyHardSigmoid,
    "erf": Erf,
    "arctan": Arctan,
    "step": Step,
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

    Source:
        Sharma 2017, Activation functions in neural networks; the threshold: McCulloch, Pitts 1943.
    """
    if name not in ACTIVATIONS:
        raise UnknownName("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
