"""Weight and bias variances at which a deep network keeps its signal and its gradient, for any activation.

The second moment q of the pre-activations and the mean square gradient go from layer to layer by

    q'  = sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2
    chi = sigma_w^2 E[phi'(sqrt(q) z)^2],                z ~ N(0, 1), Var W = sigma_w^2 / fan_in, Var b = sigma_b^2.

Criticality is q' = q with chi = 1: neither vanishing nor exploding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

#: An elementwise function of a tensor.
Elementwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Criticality:
    """A point of the (sigma_w^2, sigma_b^2) plane.

    Attributes:
        weight_variance: sigma_w^2 = fan_in * Var W.
        bias_variance: sigma_b^2.
        q: Second moment of the pre-activations that is preserved; None if any is (odd activations near 0, ReLU family).
        departure: |q' - q| / q at this point; 0 where criticality exists.
        growth: dq'/dq at this point; above 1 a disturbance of q grows with depth.
    """

    weight_variance: float
    bias_variance: float
    q: float | None
    departure: float = 0.0
    growth: float = 1.0


@functools.cache
def _half_range() -> tuple[Tensor, Tensor]:
    """Nodes and weights of the standard normal on z > 0: 64 panels of 32 Gauss-Legendre nodes up to z = 12.

    Gauss-Hermite nodes straddle the kink of ReLU and SELU at 0 and miss a saturating function's narrow slope; half ranges
    joined at 0 and short panels do neither.
    """
    nodes, weights = np.polynomial.legendre.leggauss(32)
    edges = np.linspace(0.0, 12.0, 65)
    half = (edges[1:] - edges[:-1])[:, None] / 2
    z = (edges[:-1, None] + half * (nodes + 1)).ravel()
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return torch.from_numpy(z), torch.from_numpy((half * weights).ravel() * density)


class Moments(NamedTuple):
    """Expectations over x = sqrt(q) z, z ~ N(0, 1).

    Attributes:
        square: E[phi(x)^2].
        slope: E[phi'(x)^2], the gradient's factor before sigma_w^2.
        growth: dE[phi(x)^2]/dq = E[phi(x) phi'(x) x]/q, how a change of q is passed on before sigma_w^2.
    """

    square: float
    slope: float
    growth: float


def moments(phi: Elementwise, q: float) -> Moments:
    """Gaussian moments of an activation and of its derivative.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        q: Variance of the argument, positive.

    Returns:
        The expectations, to about 1e-11.
    """
    z, weights = _half_range()
    x = (math.sqrt(q) * torch.cat([-z.flip(0), z])).requires_grad_()
    weights = torch.cat([weights.flip(0), weights])
    with torch.enable_grad():
        y = phi(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    x, y = x.detach(), y.detach()
    return Moments(*(float(weights @ f) for f in (y**2, slope**2, y * slope * x / q)))


def critical_point(phi: Elementwise, q: float = 1.0) -> Criticality:
    """The variances at which `phi` neither loses nor amplifies signal and gradient.

    - Odd phi (tanh, hard-tanh, identity): sigma_w = 1/|phi'(0)|, sigma_b = 0, the end of the critical line where the whole
      Jacobian is nearest to an isometry.
    - Positively homogeneous phi (ReLU family): sigma_w^2 = 2/(1 + slope^2), sigma_b = 0, every q.
    - Otherwise sigma_w^2 = 1/E[phi'^2] and sigma_b^2 = q - sigma_w^2 E[phi^2] at the q nearest to the one asked for (on a
      logarithmic scale from 1/100 to 100 times) where sigma_b^2 >= 0 and q is no source (dq'/dq <= 1: GELU at q = 1 would run
      away over 50 layers). If there is none (softplus), the q that fails these two by least.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        q: Preferred second moment of the pre-activations.

    Returns:
        The point; its `departure` is 0 where criticality exists.

    Source:
        Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation; Pennington, Schoenholz, Ganguli 2018.
    """
    grid = torch.linspace(0.05, 6.0, 120, dtype=torch.float64)
    # A leaky rectifier of slope 0.99999 is not odd: torch's own tolerance of 1e-5 would take it for the identity.
    if torch.allclose(phi(-grid), -phi(grid), rtol=1e-12, atol=1e-12):
        slope = _slope_at_zero(phi)
        if slope > 0:
            return Criticality(1 / slope**2, 0.0, None)
    if all(torch.allclose(phi(2 * x), 2 * phi(x), rtol=1e-12, atol=1e-12) for x in (grid, -grid)):
        return Criticality(1 / moments(phi, 1.0).slope, 0.0, None)
    candidates = sorted((q * 10 ** (k / 20) for k in range(-40, 41)), key=lambda c: abs(math.log(c / q)))
    return min((_point_at(phi, c) for c in candidates), key=lambda point: round(point.departure + max(point.growth - 1, 0), 3))


def _slope_at_zero(phi: Elementwise) -> float:
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(phi(x), x)
    return abs(float(slope))


def _point_at(phi: Elementwise, q: float) -> Criticality:
    """The point with chi = 1 at this q, and as near to q' = q as sigma_b^2 >= 0 allows."""
    square, slope, growth = moments(phi, q)
    if slope == 0:
        return Criticality(1.0, 0.0, q, departure=math.inf)
    bias_variance = q - square / slope
    return Criticality(1 / slope, max(bias_variance, 0.0), q, max(-bias_variance, 0.0) / q, growth / slope)


def second_moments(phi: Elementwise, point: Criticality, q: float, depth: int) -> Float64[Tensor, "layers"]:
    """Second moments after 0 .. depth layers of the map q' = sigma_w^2 E[phi^2] + sigma_b^2.

    Args:
        phi: Elementwise function.
        point: Variances.
        q: Second moment at the start.
        depth: Number of layers.

    Returns:
        `depth` + 1 second moments.
    """
    trajectory = [q]
    for _ in range(depth):
        trajectory.append(point.weight_variance * moments(phi, trajectory[-1]).square + point.bias_variance)
    return torch.tensor(trajectory, dtype=torch.float64)
