"""Kinds of units: what values one takes, and how its distribution follows from its input."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidData, InvalidOption, UnknownName
from deepforward.layers.sampling import bernoulli, draw_key, sample_sigmoid, softplus_sums
from deepforward.models.energy.bernoulli import softplus

LOG_2_PI = math.log(2 * math.pi)
#: How data in [0, 1] become values of binary units.
BINARIZATIONS = ("stochastic", "threshold", "none")


class Units(nn.Module, ABC):
    """A layer of units that are independent of each other given their input x.

    p(s | x) is proportional to exp((x + b(beta))·s - U(s)), b(beta) = beta b + (1 - beta) base. At beta = 1 that is the model;
    at 0, with x = 0 as well, it is a model of independent units, from which chains start and annealing begins.

    Args:
        size: Number of units.
        positions: Neighbouring units that share one bias, as the units of a map do.

    Raises:
        InvalidOption: No units, or a number that `positions` does not divide.
    """

    #: Whether every value is 0 or 1, which bf16 holds exactly.
    binary: bool = False
    #: What data of this kind look like, for messages.
    values: ClassVar[str] = "finite numbers"
    base: Tensor

    def __init__(self, size: int, positions: int = 1) -> None:
        super().__init__()
        if size < 1 or positions < 1 or size % positions:
            raise InvalidOption(f"a layer got {size} units, {positions} to a bias; expected at least 1, and a divisor of it")
        self.size, self.positions = size, positions
        self.bias = nn.Parameter(torch.zeros(size // positions))
        self.register_buffer("base", torch.zeros(size // positions))

    def bias_at(self, beta: float | Tensor) -> Tensor:
        """Bias of each unit of the tempered model, (units,) or (rows, units) for one beta a row."""
        is_own = isinstance(beta, (int, float)) and beta == 1.0
        return self.of_each(self.bias if is_own else beta * self.bias + (1.0 - beta) * self.base)

    def of_each(self, shared: Float[Tensor, "*rows biases"]) -> Float[Tensor, "*rows units"]:
        """One number a bias, repeated for the units that share it."""
        return shared if self.positions == 1 else shared.repeat_interleave(self.positions, -1)

    def shared(self, of_each: Float[Tensor, " units"]) -> Float[Tensor, " biases"]:
        """Sum over the units that share a bias: the gradient of a bias from those of its units."""
        return of_each if self.positions == 1 else of_each.reshape(-1, self.positions).sum(1)

    def _sharing(self, data: Float[Tensor, "rows units"]) -> Float[Tensor, "rows_of_all_positions biases"]:
        """Values with one column a bias."""
        if self.positions == 1:
            return data
        return data.reshape(len(data), -1, self.positions).transpose(1, 2).flatten(0, 1)

    def energy(self, values: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, " rows"]:
        """U(s) - b·s: the layer's own part of the energy, nats."""
        return self.potential(values) - (values * self.bias_at(beta)).sum(1)

    def potential(self, values: Float[Tensor, "rows units"]) -> Float[Tensor, " rows"]:
        """U(s) summed over the units."""
        return values.new_zeros(len(values))

    @abstractmethod
    def log_normalizer(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, " rows"]:
        """Log of the sum (integral) of exp((x + b)·s - U(s)) over all values of the layer, nats."""

    @abstractmethod
    def mean(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, "rows units"]:
        """Expectation given the input."""

    @abstractmethod
    def sample(
        self, inputs: Float[Tensor, "rows units"], rng: torch.Generator, beta: float | Tensor = 1.0
    ) -> Float[Tensor, "rows units"]:
        """A draw given the input."""

    def realised(self, data: Float[Tensor, "rows units"], how: str, rng: torch.Generator) -> Float[Tensor, "rows units"]:
        """Data made into values that the units take; real units take them as they are.

        Args:
            data: Probabilities of 1 (binary units) or of each category (softmax units).
            how: `stochastic`: drawn anew from these probabilities; `threshold`: 1 above one half (the likeliest category);
                `none`: left as they are, which treats a probability as if it were an observation.
            rng: Draws.

        Raises:
            UnknownName: Another way.

        Source: Salakhutdinov and Murray 2008 (stochastic binarisation, the convention of published likelihoods of MNIST).
        """
        if how not in BINARIZATIONS:
            raise UnknownName("binarisation", how, BINARIZATIONS)
        if how == "none":
            return data
        return self._drawn(data, rng) if how == "stochastic" else self._likeliest(data)

    def _drawn(self, data: Tensor, rng: torch.Generator) -> Tensor:
        return data

    def _likeliest(self, data: Tensor) -> Tensor:
        return data

    @abstractmethod
    def fit_base(self, data: Float[Tensor, "rows units"]) -> None:
        """Make `base` the maximum-likelihood bias of independent units."""

    def check(self, data: Tensor, what: str) -> None:
        """Refuse values that units of this kind cannot take.

        Raises:
            InvalidData: The message names the first bad value.
        """
        wrong = ~torch.isfinite(data) | self._outside(data)
        if wrong.any():
            row, unit = wrong.nonzero()[0].tolist()[:2]
            raise InvalidData(
                f"{what}: got {data[row, unit].item():.4g} in example {row}, unit {unit}; expected {self.values}; "
                "scale the data (scaling=min-max) or choose other visible units"
            )

    def _outside(self, data: Tensor) -> Tensor:
        return torch.zeros_like(data, dtype=torch.bool)


class BinaryUnits(Units):
    """Units with the values 0 and 1: p(1 | x) = sigmoid(x + b). Data may be probabilities of 1."""

    binary = True
    values: ClassVar[str] = "numbers from 0 to 1"

    def log_normalizer(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, " rows"]:
        """Sum of log(1 + exp(x + b))."""
        bias = self.bias_at(beta)
        if torch.is_grad_enabled() or inputs.dtype == torch.float64 or bias.ndim > 1:
            return softplus(inputs + bias).sum(1)
        return softplus_sums(inputs, bias, 1.0)

    def mean(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, "rows units"]:
        """Probability of 1."""
        return (inputs + self.bias_at(beta)).sigmoid()

    def sample(
        self, inputs: Float[Tensor, "rows units"], rng: torch.Generator, beta: float | Tensor = 1.0
    ) -> Float[Tensor, "rows units"]:
        """1 with the probability `mean`."""
        bias, samples = self.bias_at(beta).detach(), torch.empty_like(inputs)
        if bias.ndim > 1:
            sample_sigmoid(inputs + bias, None, draw_key(rng), samples=samples)
        else:
            sample_sigmoid(inputs, bias, draw_key(rng), samples=samples)
        return samples

    def fit_base(self, data: Float[Tensor, "rows units"]) -> None:
        """log(p / (1 - p)) of the share p of ones, to which one 0 and one 1 are added, so that it is finite."""
        data = self._sharing(data)
        share = (data.double().sum(0) + 1.0) / (len(data) + 2.0)
        self.base.copy_(share.logit())

    def _drawn(self, data: Tensor, rng: torch.Generator) -> Tensor:
        return bernoulli(data, draw_key(rng))

    def _likeliest(self, data: Tensor) -> Tensor:
        return (data > 0.5).to(data.dtype)

    def _outside(self, data: Tensor) -> Tensor:
        return (data < 0) | (data > 1)


class GaussianUnits(Units):
    """Real units: U(s) = precision s²/2, so p(s | x) is normal with mean (x + b) / precision and variance 1 / precision.

    Args:
        size: Number of units.
        learn_precision: Whether the precision of each unit is a parameter; otherwise it is 1, for standardised data.
        positions: Neighbouring units that share one bias and one precision.
    """

    def __init__(self, size: int, learn_precision: bool = False, positions: int = 1) -> None:
        super().__init__(size, positions)
        self.log_precision = nn.Parameter(torch.zeros_like(self.bias), requires_grad=learn_precision)

    def potential(self, values: Float[Tensor, "rows units"]) -> Float[Tensor, " rows"]:
        """The sum of precision s²/2."""
        return 0.5 * (values.square() * self.of_each(self.log_precision).exp()).sum(1)

    def log_normalizer(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, " rows"]:
        """Sum of (x + b)² / (2 precision) + log(2 pi / precision) / 2."""
        total, log_precision = inputs + self.bias_at(beta), self.of_each(self.log_precision)
        return 0.5 * (total.square() * (-log_precision).exp() + LOG_2_PI - log_precision).sum(1)

    def mean(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, "rows units"]:
        """(x + b) / precision."""
        return (inputs + self.bias_at(beta)) * (-self.of_each(self.log_precision)).exp()

    def sample(
        self, inputs: Float[Tensor, "rows units"], rng: torch.Generator, beta: float | Tensor = 1.0
    ) -> Float[Tensor, "rows units"]:
        """Normal with the mean `mean`."""
        noise = torch.randn(inputs.shape, generator=rng, device=inputs.device, dtype=inputs.dtype)
        return self.mean(inputs, beta) + noise * (-0.5 * self.of_each(self.log_precision)).exp()

    def fit_base(self, data: Float[Tensor, "rows units"]) -> None:
        """The mean times the precision."""
        self.base.copy_(self._sharing(data).mean(0) * self.log_precision.exp())
