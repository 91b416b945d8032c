"""Derivatives of the activations in closed form, to be read; training uses autograd, which the tests hold them against."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

Derivative = Callable[[Tensor], Tensor]


def identity(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1."""
    return torch.ones_like(x)


def step(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """0: no gradient passes a threshold (at x = 0, where there is no derivative, as elsewhere)."""
    return torch.zeros_like(x)


def sigmoid(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """S (1 - s), at most 1/4."""
    s = 1 / (1 + torch.exp(-x))
    return s * (1 - s)


def tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """One minus the square of tanh, at most 1."""
    return 1 - torch.tanh(x) ** 2


def arctan(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 / (1 + x^2)."""
    return 1 / (1 + x**2)


def erf(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """2/sqrt(pi) exp(-x^2)."""
    return 2 / math.sqrt(math.pi) * torch.exp(-(x**2))


def relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 where x > 0, else 0."""
    return (x > 0).to(x.dtype)


def leaky_relu(x: Float[Tensor, "*shape"], slope: float = 0.01) -> Float[Tensor, "*shape"]:
    """1 where x > 0, else the slope a."""
    return torch.where(x > 0, torch.ones_like(x), slope)


def prelu(x: Float[Tensor, "*shape"], slope: float = 0.25) -> Float[Tensor, "*shape"]:
    """As the leaky rectifier; the slope a is learnt, d phi / da = min(x, 0)."""
    return leaky_relu(x, slope)


def elu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 where x > 0, else exp(x), which is phi + 1."""
    return torch.where(x > 0, 1.0, torch.exp(x))


def selu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Lambda where x > 0, else lambda alpha exp(x)."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772  # keep mean 0 and variance 1 (Klambauer et al. 2017)
    return scale * torch.where(x > 0, 1.0, alpha * torch.exp(x))


def softplus(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The sigmoid, 1/(1 + exp(-x))."""
    return 1 / (1 + torch.exp(-x))


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """S + x s (1 - s), of x s(x), the swish."""
    s = 1 / (1 + torch.exp(-x))
    return s + x * s * (1 - s)


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Phi(x) + x Phi'(x), of x Phi(x), with the distribution function Phi of the standard normal."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2 + x * torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def hard_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 where |x| < 1, else 0."""
    return (x.abs() < 1).to(x.dtype)


def hard_sigmoid(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1/6 where |x| < 3, else 0."""
    return (x.abs() < 3).to(x.dtype) / 6


#: Name of a deterministic activation (see `ACTIVATIONS`) -> its derivative; `NoisyActivation.derivative` is that of noisy ones.
DERIVATIVES: Mapping[str, Derivative] = {
    "relu": relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "gelu": gelu,
    "selu": selu,
    "elu": elu,
    "silu": silu,
    "swish": silu,
    "leaky-relu": leaky_relu,
    "prelu": prelu,
    "softplus": softplus,
    "hard-tanh": hard_tanh,
    "hard-sigmoid": hard_sigmoid,
    "erf": erf,
    "arctan": arctan,
    "step": step,
    "identity": identity,
}


def softmax_jacobian(x: Float[Tensor, "classes"]) -> Float[Tensor, "classes classes"]:
    """diag(s) - s s', of the softmax s = exp(x) / sum exp(x), which acts on a whole vector: rows and columns sum to 0."""
    exponentials = torch.exp(x - x.max())  # the largest is taken off, lest exp overflow; s is the same
    s = exponentials / exponentials.sum()
    return torch.diag(s) - torch.outer(s, s)
