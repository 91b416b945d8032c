"""Kinds of units: what values one takes, and how its distribution follows from its input."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.errors import InvalidData, InvalidOption, UnknownName
from deepforward.layers.sampling import bernoulli, draw_key, sample_sigmoid, softplus_sums

_LOG_2_PI = math.log(2 * math.pi)
_ROOT_2 = math.sqrt(2)
#: How data in [0, 1] become values of binary units.
BINARIZATIONS = ("stochastic", "threshold", "none")
#: Standard deviations below which a normal has a tail that float64 holds with all digits.
_FAR = 30.0


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
            return F.softplus(inputs + bias, threshold=40.0).sum(1)  # exact where torch's own 20 leaves out exp(-20)
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
        return 0.5 * (total.square() * (-log_precision).exp() + _LOG_2_PI - log_precision).sum(1)

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


class RectifiedUnits(Units):
    """Units with values s >= 0: U(s) = s²/2, so p(s | x) is a normal of mean x + b and variance 1 cut off below 0.

    Exact where noisy rectified units (Nair and Hinton 2010) are an approximation, so that free energy and likelihood exist.

    Source: Tubiana and Monasson 2017, Emergence of compositional representations in restricted Boltzmann machines, eq. 4.
    """

    values: ClassVar[str] = "numbers of at least 0"

    def potential(self, values: Float[Tensor, "rows units"]) -> Float[Tensor, " rows"]:
        """The sum of s²/2."""
        return 0.5 * values.square().sum(1)

    def log_normalizer(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, " rows"]:
        """Sum of t²/2 + log Phi(t) + log(2 pi) / 2 with t = x + b."""
        total = inputs + self.bias_at(beta)
        low, high = total.clamp(max=0.0), total.clamp(min=0.0)
        # Below 0 the first two terms cancel; erfcx is their sum.
        below = (0.5 * torch.special.erfcx(-low / _ROOT_2)).log()
        above = 0.5 * high.square() + torch.special.log_ndtr(high)
        return (torch.where(total < 0, below, above) + 0.5 * _LOG_2_PI).sum(1)

    def mean(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, "rows units"]:
        """The mean t + phi(t) / Phi(t); in float64, since the terms cancel, and by its asymptotic series far below 0."""
        total = (inputs + self.bias_at(beta)).double()
        near = total.clamp(-_FAR, _FAR)  # where the ratio is a number, and so are its derivatives
        ratio = math.sqrt(2 / math.pi) / torch.special.erfcx(-near / _ROOT_2)
        inverse = -1.0 / total.clamp(max=-_FAR)
        series = inverse - 2 * inverse**3 + 10 * inverse**5 - 74 * inverse**7
        return torch.where(total < -_FAR, series, total + ratio).to(inputs.dtype)

    def sample(
        self, inputs: Float[Tensor, "rows units"], rng: torch.Generator, beta: float | Tensor = 1.0
    ) -> Float[Tensor, "rows units"]:
        """By inversion: t - Phi^-1(u Phi(t)), u uniform; in float64, since the tail is where small inputs draw from.

        Below -30 the tail is taken for exponential with the right mean, whose density is right within 2 / t², at most 0.3%.
        """
        total = (inputs + self.bias_at(beta)).double()
        uniform = torch.rand(total.shape, generator=rng, device=total.device, dtype=torch.float64)
        uniform.clamp_(min=2.0**-54)  # what is drawn as 0 lies below 2^-53, and times Phi it must not be 0
        below = 0.5 * torch.special.erfc(-total.clamp(min=-_FAR) / _ROOT_2)  # Phi(t), of which torch's ndtr loses the tail
        near = total - torch.special.ndtri(uniform * below)
        far = -uniform.log() * self.mean(inputs, beta).double()
        return torch.where(total < -_FAR, far, near).clamp_(min=0.0).to(inputs.dtype)

    def fit_base(self, data: Float[Tensor, "rows units"]) -> None:
        """Zero: no data are of this kind yet."""
        self.base.zero_()

    def _outside(self, data: Tensor) -> Tensor:
        return data < 0


class SoftmaxUnits(Units):
    """Groups of `categories` units of which exactly one is 1: p(k | x) = softmax(x + b) within the group.

    Args:
        size: Number of units, a multiple of `categories`.
        categories: Units in a group.

    Source: Salakhutdinov, Mnih, Hinton 2007, Restricted Boltzmann machines for collaborative filtering.
    """

    binary = True
    values: ClassVar[str] = "one 1 in each group of categories and 0 elsewhere, or probabilities that sum to 1"

    def __init__(self, size: int, categories: int) -> None:
        super().__init__(size)
        if categories < 2 or size % categories:
            raise InvalidOption(
                f"softmax units got {categories} categories for {size} values; expected a divisor of at least 2"
            )
        self.categories = categories

    def log_normalizer(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, " rows"]:
        """Sum over the groups of log sum exp(x + b)."""
        return self._grouped(inputs + self.bias_at(beta)).logsumexp(2).sum(1)

    def mean(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, "rows units"]:
        """Probability of each category."""
        return self._grouped(inputs + self.bias_at(beta)).softmax(2).flatten(1)

    def sample(
        self, inputs: Float[Tensor, "rows units"], rng: torch.Generator, beta: float | Tensor = 1.0
    ) -> Float[Tensor, "rows units"]:
        """One category a group, by inversion of the cumulative probabilities."""
        return self._drawn(self.mean(inputs.float(), beta), rng).to(inputs.dtype)

    def _drawn(self, probabilities: Tensor, rng: torch.Generator) -> Tensor:
        """A one-hot draw from the probabilities of each group."""
        steps = self._grouped(probabilities).double().cumsum(2)
        uniform = torch.rand((*steps.shape[:2], 1), generator=rng, device=steps.device, dtype=torch.float64)
        chosen = (uniform * steps[..., -1:] >= steps).sum(2).clamp_(max=self.categories - 1)
        return F.one_hot(chosen, self.categories).flatten(1).to(probabilities.dtype)

    def _likeliest(self, data: Tensor) -> Tensor:
        return F.one_hot(self._grouped(data).argmax(2), self.categories).flatten(1).to(data.dtype)

    def fit_base(self, data: Float[Tensor, "rows units"]) -> None:
        """Log of the share of each category, with one example added to each."""
        self.base.copy_(((data.double().sum(0) + 1.0) / (len(data) + self.categories)).log())

    def check(self, data: Tensor, what: str) -> None:
        """Refuse what is not a distribution over the categories of each group."""
        super().check(data, what)
        sums = self._grouped(data).sum(2)
        if ((sums - 1).abs() > 1e-3).any():
            row, group = ((sums - 1).abs() > 1e-3).nonzero()[0].tolist()
            raise InvalidData(
                f"{what}: got {sums[row, group].item():.4g} as the sum of group {group} of example {row}; "
                f"expected {self.values}; encode the categories one-hot"
            )

    def _outside(self, data: Tensor) -> Tensor:
        return (data < 0) | (data > 1)

    def _grouped(self, values: Tensor) -> Tensor:
        return values.reshape(len(values), -1, self.categories)


class PooledUnits(Units):
    """Maps of binary units in square blocks, of which at most one is 1: probabilistic max pooling.

    Within a block p(unit k is 1) = exp(x_k + b) / (1 + sum over the block of exp(x + b)), and otherwise all are 0.

    Args:
        shape: Maps, their height and width.
        pool: Side of a block; it divides height and width.

    Raises:
        InvalidOption: It does not.

    Source: Lee, Grosse, Ranganath, Ng 2009, Convolutional deep belief networks, section 3.3.
    """

    binary = True
    values: ClassVar[str] = "0 or 1, at most one 1 in each block"

    def __init__(self, shape: tuple[int, int, int], pool: int) -> None:
        super().__init__(math.prod(shape), shape[1] * shape[2])
        if shape[1] % pool or shape[2] % pool:
            raise InvalidOption(
                f"pooling got maps of {shape[1]}x{shape[2]} units and pool={pool}; expected a divisor; choose another kernel"
            )
        self.shape, self.pool = shape, pool

    def log_normalizer(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, " rows"]:
        """Sum over the blocks of log(1 + sum exp(x + b))."""
        return self._with_off(inputs + self.bias_at(beta)).logsumexp(0).sum(1)

    def mean(self, inputs: Float[Tensor, "rows units"], beta: float | Tensor = 1.0) -> Float[Tensor, "rows units"]:
        """Probability of 1."""
        return self._maps(self._with_off(inputs + self.bias_at(beta)).softmax(0)[:-1])

    def sample(
        self, inputs: Float[Tensor, "rows units"], rng: torch.Generator, beta: float | Tensor = 1.0
    ) -> Float[Tensor, "rows units"]:
        """The one unit of each block that is 1, or none, by inversion of the cumulative probabilities."""
        steps = self._with_off(inputs + self.bias_at(beta)).softmax(0).cumsum(0)
        uniform = torch.rand(steps.shape[1:], generator=rng, device=steps.device, dtype=steps.dtype)
        reached = (uniform < steps[:-1]).to(steps.dtype)  # from the chosen unit on
        reached[1:] -= reached[:-1].clone()
        return self._maps(reached).to(inputs.dtype)

    def fit_base(self, data: Float[Tensor, "rows units"]) -> None:
        """Zero: no data are of this kind yet."""
        self.base.zero_()

    def pooled(self, values: Float[Tensor, "rows units"]) -> Float[Tensor, "rows blocks"]:
        """Sum of each block: whether a unit of it is 1, or the probability of that."""
        return self._blocks(values).sum(0)

    def _outside(self, data: Tensor) -> Tensor:
        return (data < 0) | (data > 1)

    # The units of a block come first, (pool², rows, blocks): what runs over them then runs over whole layers.

    def _with_off(self, inputs: Tensor) -> Tensor:
        """Inputs by block, and behind them that of the state in which all are 0."""
        return F.pad(self._blocks(inputs), (0, 0, 0, 0, 0, 1))

    def _blocks(self, values: Tensor) -> Tensor:
        maps, height, width = self.shape
        sides = values.reshape(len(values), maps, height // self.pool, self.pool, width // self.pool, self.pool)
        return sides.permute(3, 5, 0, 1, 2, 4).reshape(self.pool**2, len(values), -1)

    def _maps(self, blocks: Tensor) -> Tensor:
        maps, height, width = self.shape
        sides = blocks.reshape(self.pool, self.pool, blocks.shape[1], maps, height // self.pool, width // self.pool)
        return sides.permute(2, 3, 4, 0, 5, 1).reshape(blocks.shape[1], -1)


#: Names of kinds of units as options know them.
VISIBLE = ("binary", "gaussian", "softmax")
HIDDEN = ("binary", "relu")


def visible_units(kind: str, size: int, *, categories: int = 0, learn_precision: bool = False) -> Units:
    """Units for data: `binary`, `gaussian` or `softmax`.

    Raises:
        UnknownName: Another kind.
        InvalidOption: An option that this kind does not take, or softmax without categories.
    """
    if kind not in VISIBLE:
        raise UnknownName("kind of visible units", kind, VISIBLE)
    if categories and kind != "softmax":
        raise InvalidOption(f"got categories={categories} for {kind} units; only softmax units have categories")
    if learn_precision and kind != "gaussian":
        raise InvalidOption(f"got learn_precision for {kind} units; only gaussian units have a precision")
    if kind == "softmax":
        return SoftmaxUnits(size, categories)
    return GaussianUnits(size, learn_precision) if kind == "gaussian" else BinaryUnits(size)


def hidden_units(kind: str, size: int) -> Units:
    """Hidden units: `binary` or `relu`.

    Raises:
        UnknownName: Another kind.
    """
    if kind not in HIDDEN:
        raise UnknownName("kind of hidden units", kind, HIDDEN)
    return BinaryUnits(size) if kind == "binary" else RectifiedUnits(size)
