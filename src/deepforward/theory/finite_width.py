"""What finite width adds to the mean field: how far one network's gradient strays from the prediction, to first order in 1/N.

A layer multiplies |dL/dz|^2 by a mean over its N units of phi'(z)^2 g^2 with Gaussian g, whose relative variance is
(3 E[phi'^4]/E[phi'^2]^2 - 1)/N: 5/N for ReLU, 2/N for a linear layer. The mean of phi(z)^2 varies by
(E[phi^4]/E[phi^2]^2 - 1)/N, which moves q and with it all chi above. Weights are taken as independent; orthogonal ones stray
less.

Source: Hanin 2018, Which neural net architectures give rise to exploding and vanishing gradients, for the variance that grows
as depth over width; derived here for any activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deepforward.theory.quadrature import Moments


@dataclass(frozen=True)
class Noise:
    """What one finite layer adds, and what it does with what comes from below.

    `gradient`, `signal` and `both` are relative variances of the gradient's growth and of q, and their covariance; `passed` and
    `felt` are d ln q' / d ln q and d ln chi / d ln q, `passed_bend` and `felt_bend` the second derivatives.
    """

    gradient: float
    signal: float
    both: float
    passed: float
    passed_bend: float
    felt: float
    felt_bend: float

    @classmethod
    def of(cls, found: Moments, q: float, weight_variance: float, bias_variance: float, width: int) -> Noise:
        """The step from `width` units with moments `found`, taken at q, to the next layer, whose variances these are."""
        if found.slope == 0 or found.square == 0 or weight_variance == 0:
            return cls(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        carried = weight_variance * found.square
        share, elasticity = carried / (carried + bias_variance), found.growth * q / found.square
        return cls(
            gradient=(3 * found.slope_fourth / found.slope**2 - 1) / width,
            signal=share**2 * (found.fourth / found.square**2 - 1) / width,
            both=share * (found.mixed / (found.square * found.slope) - 1) / width,
            passed=share * elasticity,
            passed_bend=share * found.bend + share * (1 - share) * elasticity**2,
            felt=found.slope_growth,
            felt_bend=found.slope_bend,
        )


def log_mean_and_variance(noises: Sequence[Noise]) -> tuple[list[float], list[float]]:
    """Mean that width adds to ln chi of each layer, and the variance of the sum of ln chi from each layer on.

    A deviation of ln q at layer l changes the sum by `felt` there and, `passed` on, by what it does above; what deviates below
    layer l has been passed up to it. The mean of a logarithm is half its variance below the logarithm of the mean.
    """
    means, arriving, mean, variance = [], [], 0.0, 0.0
    for noise in noises:
        means.append(noise.felt * mean + noise.felt_bend * variance / 2 - noise.gradient / 2)
        arriving.append(variance)
        mean = noise.passed * mean + noise.passed_bend * variance / 2 - noise.signal / 2
        variance = noise.passed**2 * variance + noise.signal
    variances, within, effect = [0.0], 0.0, 0.0
    for noise, below in zip(reversed(noises), reversed(arriving), strict=True):
        within += noise.gradient + 2 * effect * noise.both + effect**2 * noise.signal
        effect = noise.felt + noise.passed * effect
        variances.append(within + effect**2 * below)
    return means, variances[::-1]
