"""Units that are zero or positive."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.models.energy.units import LOG_2_PI, Units

_ROOT_2 = math.sqrt(2)
#: Standard deviations below which a normal has a tail that float64 holds with all digits.
_FAR = 30.0


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
        return (torch.where(total < 0, below, above) + 0.5 * LOG_2_PI).sum(1)

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
