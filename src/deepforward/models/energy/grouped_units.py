"""Units that exclude each other: at most one of a group is 1, or exactly one."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from deepforward.errors import InvalidData, InvalidOption
from deepforward.models.energy.units import Units


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
