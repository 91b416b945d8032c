"""Gaussian expectations of an activation and of its derivative, exact also where it has kinks or saturates.

Gauss-Hermite nodes straddle the kinks of a derivative and miss the narrow slope of an activation that saturates: with 128 of
them E[selu'(z)^2] is 1.0637 instead of 1.0716, and E[tanh'(10 z)^2] is 0.0108 instead of 0.0531. Here the line is cut at the
kinks, finely where activations bend, coarsely where they do not, and each piece gets Gauss-Legendre nodes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

#: An elementwise function of a tensor.
Elementwise = Callable[[Tensor], Tensor]

#: Beyond this many standard deviations the normal distribution has a weight of 1e-33.
_REACH = 12.0

#: Second moments are held within these, so that neither their square nor their root leaves the range of float64.
SMALLEST, LARGEST = 1e-150, 1e120


class Moments(NamedTuple):
    """Expectations over x = sqrt(q) z, z ~ N(0, 1).

    Attributes:
        square: E[phi(x)^2].
        slope: E[phi'(x)^2], the gradient's factor before sigma_w^2.
        growth: dE[phi(x)^2]/dq = E[phi(x) phi'(x) x]/q, how a change of q is passed on before sigma_w^2.
        bend: Second derivative of ln E[phi(x)^2] by ln q.
        slope_growth: d ln E[phi'(x)^2] / d ln q.
        slope_bend: Second derivative of ln E[phi'(x)^2] by ln q.
        fourth: E[phi(x)^4].
        slope_fourth: E[phi'(x)^4].
        mixed: E[phi(x)^2 phi'(x)^2].
    """

    square: float
    slope: float
    growth: float
    bend: float
    slope_growth: float
    slope_bend: float
    fourth: float
    slope_fourth: float
    mixed: float


class Activation:
    """An elementwise function that equals another where their values agree, so that what is computed of one is known of both.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
    """

    def __init__(self, phi: Elementwise) -> None:
        self.phi = phi
        self.values = phi(_fingerprint()).detach().numpy().tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and self.values == other.values

    def __hash__(self) -> int:
        return hash(self.values)


def identify(phi: Elementwise) -> Activation:
    """The first function seen that agrees with `phi` in value, so that caches keep one of them and not every network's own."""
    return _first(Activation(phi))


@functools.lru_cache(maxsize=256)
def _first(activation: Activation) -> Activation:
    return activation


@functools.cache
def _fingerprint() -> Tensor:
    """Points, dense near 0 and out to a million, at which no two activations in use agree."""
    return torch.sinh(torch.linspace(-14.5, 14.513, 501, dtype=torch.float64))


def derivative(phi: Elementwise, x: Float64[Tensor, "*shape"]) -> tuple[Float64[Tensor, "*shape"], Float64[Tensor, "*shape"]]:
    """phi(x) and phi'(x)."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = phi(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slope


def kinks(phi: Elementwise) -> tuple[float, ...]:
    """Points of [-32, 32] at which the derivative jumps, by more than a millionth of its largest value.

    Each of 2048 intervals is halved 45 times towards the greater change of phi'; a jump is what remains. Of several kinks less
    than 1/32 apart one is found.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
    """
    return _kinks(identify(phi))


@functools.lru_cache(maxsize=256)
def _kinks(activation: Activation) -> tuple[float, ...]:
    # The shift keeps kinks, which tend to be at round numbers, off the ends of the intervals.
    grid = torch.linspace(-32.0, 32.0, 2049, dtype=torch.float64) + 0.0031
    slopes = derivative(activation.phi, grid)[1]
    low, high, at_low, at_high = grid[:-1], grid[1:], slopes[:-1], slopes[1:]
    for _ in range(45):
        middle = (low + high) / 2
        slope = derivative(activation.phi, middle)[1]
        left = (slope - at_low).abs() > (at_high - slope).abs()
        low, at_low = torch.where(left, low, middle), torch.where(left, at_low, slope)
        high, at_high = torch.where(left, middle, high), torch.where(left, slope, at_high)
    jumps = (at_high - at_low).abs() > 1e-6 * slopes.abs().max()
    return tuple(((low + high) / 2)[jumps].tolist())


@functools.cache
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights


@functools.cache
def _bends() -> np.ndarray:
    """Distances from 0 at which pieces end: every half up to 8, every 1 up to 32, then ever farther."""
    return np.concatenate([np.arange(0, 8, 0.5), np.arange(8, 32), 32 * 1.5 ** np.arange(700)])


def pieces(edges: np.ndarray, count: int = 16) -> tuple[Float64[Tensor, "nodes"], Float64[Tensor, "nodes"]]:
    """Nodes and weights of the standard normal density, `count` in each interval between consecutive edges."""
    nodes, weights = _legendre(count)
    half = (edges[1:] - edges[:-1])[:, None] / 2
    z = (edges[:-1, None] + half * (nodes + 1)).ravel()
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return torch.from_numpy(z), torch.from_numpy((half * weights).ravel() * density)


def normal_nodes(q: float, cuts: tuple[float, ...]) -> tuple[Float64[Tensor, "nodes"], Float64[Tensor, "nodes"]]:
    """Nodes and weights for expectations of f(sqrt(q) z), z ~ N(0, 1), by which f may jump at `cuts`.

    Args:
        q: Variance of the argument, positive.
        cuts: Where f or its derivative jumps, in units of the argument.
    """
    root = math.sqrt(q)
    bends = _bends()
    bends = bends[: int(np.searchsorted(bends, _REACH * root))] / root
    jumps = np.asarray(cuts, dtype=np.float64) / root
    steps = np.linspace(-_REACH, _REACH, 33)
    return pieces(np.unique(np.concatenate([steps, bends, -bends, jumps[np.abs(jumps) < _REACH]])))


def moments(phi: Elementwise, q: float) -> Moments:
    """Gaussian moments of an activation and of its derivative.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        q: Variance of the argument, not negative; held within [1e-150, 1e120].

    Returns:
        The expectations, to about 1e-11 of their size.
    """
    return moments_of(identify(phi), q)


@functools.lru_cache(maxsize=16384)
def moments_of(activation: Activation, q: float) -> Moments:
    """`moments` of a function whose values have been taken: computed once for all functions that agree in them."""
    q = min(max(q, SMALLEST), LARGEST)
    z, weights = normal_nodes(q, _kinks(activation))
    x = math.sqrt(q) * z
    y, slope = derivative(activation.phi, x)
    squared, steepness, z_squared = y * y, slope * slope, z * z
    # integrated by parts, derivatives by ln q need none of phi'
    weighed = torch.stack((weights, weights * (z_squared - 1), weights * (z_squared * (z_squared - 4) + 1)))
    (square, *of_square), (mean_slope, *of_slope) = (weighed @ torch.stack((squared, steepness), 1)).T.tolist()
    growth = float(weights @ (y * slope * x)) / q
    weighed_square = weights * squared
    fourth = float(weighed_square @ squared), float((weights * steepness) @ steepness), float(weighed_square @ steepness)
    bend = _elasticity(square, *of_square)[1]
    return Moments(square, mean_slope, growth, bend, *_elasticity(mean_slope, *of_slope), *fourth)


def _elasticity(mean: float, first: float, second: float) -> tuple[float, float]:
    """First and second derivative of ln E[f(sqrt(q) z)] by ln q, from E[f], E[f (z^2 - 1)] and E[f (z^4 - 4 z^2 + 1)]."""
    if mean <= 0:
        return 0.0, 0.0
    return first / mean / 2, second / mean / 4 - (first / mean / 2) ** 2
