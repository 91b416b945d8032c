"""How the correlation of two inputs changes from layer to layer: whether a deep network still tells them apart.

With pre-activations of second moment q and correlation c,

    c' = (sigma_w^2 E[phi(u) phi(v)] + sigma_b^2) / q',    (u, v) Gaussian with variance q and correlation c.

chi = sigma_w^2 E[phi'^2] is the slope of this map at c = 1. Where it is at most 1 all inputs are drawn together: ReLU at
chi = 1 keeps its gradient and yet ends at c = 1 (rank collapse).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from deepforward.errors import InvalidOption, ShapeError
from deepforward.theory.mean_field import MeanFieldLayer
from deepforward.theory.quadrature import LARGEST, SMALLEST, Activation, Elementwise, identify, kinks, moments_of, pieces


def product(phi: Elementwise, q: float, correlation: float) -> float:
    """E[phi(u) phi(v)] for Gaussian u and v of variance q.

    Computed as E[phi^2] - E[(phi(u) - phi(v))^2]/2, which keeps its digits as the correlation tends to 1, with
    u, v = sqrt(q) (a s +- b t), a^2 = (1 + c)/2, b^2 = (1 - c)/2: the line of s is cut at the kinks and, on the scale of b/a,
    about them.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        q: Variance, positive.
        correlation: c in [-1, 1].

    Returns:
        The expectation; the difference from E[phi^2] to 1e-4 of its size, far better where phi is smooth and q moderate.
    """
    return product_of(identify(phi), q, correlation)


@functools.lru_cache(maxsize=16384)
def product_of(activation: Activation, q: float, correlation: float) -> float:
    """`product` of a function whose values have been taken."""
    q, c = min(max(q, SMALLEST), LARGEST), min(max(correlation, -1.0), 1.0)
    a, b = math.sqrt((1 + c) / 2), math.sqrt((1 - c) / 2)
    square = moments_of(activation, q).square
    if b == 0:
        return square
    bends = np.array([0.75, 2, 4, 10]) / (b * math.sqrt(q))
    t, of_t = pieces(np.unique(np.concatenate([np.linspace(0, 9, 7), bends[bends < 9]])), 8)
    s, of_s = pieces(_edges(q, a, b, kinks(activation.phi)), 8)
    root = math.sqrt(q)
    along, across = root * a * s[:, None], root * b * t
    gap = (activation.phi(along + across) - activation.phi(along - across)) ** 2
    return square - float(of_s @ gap.detach() @ of_t)  # both signs of t, and the half, cancel


def _edges(q: float, a: float, b: float, cuts: Sequence[float]) -> np.ndarray:
    """Where the line of s is cut: evenly, where activations bend, and about each kink."""
    scale = max(a * math.sqrt(q), 1e-300)
    bends = np.array([0.0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 18, 27, 40]) / scale
    about = np.array([0, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6]) * (b / max(a, 1e-300))
    kinked = [np.array([cut / scale + about, cut / scale - about]).ravel() for cut in cuts]
    edges = np.concatenate([np.linspace(-9, 9, 25), bends, -bends, *kinked])
    return np.unique(edges[np.abs(edges) <= 9])


def propagate_correlation(layers: Sequence[MeanFieldLayer], q: Sequence[float], correlation: float) -> tuple[float, ...]:
    """Correlation of the pre-activations of two inputs at each layer.

    Args:
        layers: From input to output.
        q: Second moment of each layer's pre-activation, as `Trajectory.q`; the same for both inputs.
        correlation: Mean product of the entries of the two inputs over their mean square, in [-1, 1].

    Returns:
        One correlation E[z z']/q a layer; it counts what biases have in common. 1 where nothing arrives.

    Raises:
        InvalidOption: `correlation` is outside [-1, 1].
        ShapeError: `q` does not have one entry a layer.
    """
    if not -1 <= correlation <= 1:
        raise InvalidOption(f"got a correlation of {correlation}; expected a number in [-1, 1]; divide by the mean square")
    if len(q) != len(layers):
        raise ShapeError(f"got {len(q)} second moments for {len(layers)} layers; expected one each; pass Trajectory.q")
    known = {id(layer.activation): identify(layer.activation) for layer in layers[:-1]}
    weighed = (q[0] - layers[0].bias_variance) * correlation
    found = [_ratio(weighed + layers[0].bias_variance, q[0])]
    for at, after in enumerate(layers[1:]):
        shared = after.weight_variance * product_of(known[id(layers[at].activation)], q[at], found[-1])
        found.append(_ratio(shared + after.bias_variance, q[at + 1]))
    return tuple(found)


def _ratio(shared: float, q: float) -> float:
    return min(max(shared / q, -1.0), 1.0) if q > 0 else 1.0


def slope_product(phi: Elementwise, q: float, correlation: float) -> float:
    """E[phi'(u) phi'(v)] for Gaussian u and v of variance q, the slope of E[phi(u) phi(v)] by their covariance q c.

    A central difference quotient, to about 1e-3 of its size. Its value at c = 1 is `moments(phi, q).slope`.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        q: Variance, positive.
        correlation: c in (-1, 1).
    """
    activation, step = identify(phi), min(0.03, (1 - abs(correlation)) / 2)
    above, below = (product_of(activation, q, correlation + side) for side in (step, -step))
    return (above - below) / (2 * step * q)
