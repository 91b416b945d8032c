"""The phase of a random network in the plane of sigma_w and sigma_b: order, chaos, and the edge between them.

With q* the second moment on which the layers settle and chi = sigma_w^2 E[phi'(sqrt(q*) z)^2], gradients vanish and inputs
become alike where chi < 1 (order), gradients explode and similar inputs part where chi > 1 (chaos).

Source: Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli 2016, Exponential expressivity in deep neural networks through transient
chaos; Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation, for the depth scales.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy import optimize

from deepforward.theory.correlation import product_of, slope_product
from deepforward.theory.quadrature import Activation, Elementwise, Moments, identify, moments_of

#: |chi - 1| below this counts as critical: over 1000 layers the gradient changes by less than e.
CRITICAL = 1e-3

#: Second moments between which a fixed point is looked for; beyond, it counts as 0 or as infinite.
_LOWEST, _HIGHEST = 1e-9, 1e9

#: Between them, densely where activations bend, and 1 in the middle.
_DENSE = np.geomspace(1e-3, 1e3, 181)
_GRID = np.concatenate([np.geomspace(_LOWEST, 1e-3, 25)[:-1], _DENSE, np.geomspace(1e3, _HIGHEST, 25)[1:]])


@dataclass(frozen=True)
class PhasePoint:
    """Where a network with these variances settles, and how fast.

    Attributes:
        weight_variance: sigma_w^2 = fan_in * Var W.
        bias_variance: sigma_b^2.
        q: q*, the second moment on which pre-activations settle from 1; 0 where they die out, inf where they grow for ever.
        chi: Growth of the mean square gradient a layer, at q*; the slope of the correlation's map at c = 1.
        correlation: c*, on which the correlation of two inputs settles.
        kind: `ordered`, `critical` (|chi - 1| < 1e-3) or `chaotic`.
        q_depth: xi_q, layers within which a deviation from q* falls by e; None where it does not fall exponentially.
        correlation_depth: xi_c, layers within which a deviation from c* falls by e; None likewise, as at criticality, where it
            falls as a power of depth.
    """

    weight_variance: float
    bias_variance: float
    q: float
    chi: float
    correlation: float
    kind: str
    q_depth: float | None
    correlation_depth: float | None


class _Moments(NamedTuple):
    """Moments on a logarithmic grid of q, as arrays."""

    q: np.ndarray
    square: np.ndarray
    slope: np.ndarray


@functools.lru_cache(maxsize=64)
def _moments_over_q(activation: Activation) -> _Moments:
    found = [moments_of(activation, float(value)) for value in _GRID]
    return _Moments(_GRID, np.array([m.square for m in found]), np.array([m.slope for m in found]))


def fixed_point(phi: Elementwise, weight_variance: float, bias_variance: float, start: float = 1.0) -> float:
    """The second moment on which q' = sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2 settles from `start`.

    The sign of q' - q at the start tells the direction and the next change of sign the place, which a root finder refines: near
    criticality the iteration itself takes thousands of layers.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        weight_variance: sigma_w^2.
        bias_variance: sigma_b^2.
        start: Second moment at the start; returned itself where every q is preserved (ReLU at sigma_w^2 = 2).

    Returns:
        q*, to about 1e-9 of its size; 0 where it is below 1e-9, inf where above 1e9.
    """
    activation = identify(phi)

    def excess(log_q: float) -> float:
        """(q' - q)/q."""
        q = math.exp(log_q)
        return (weight_variance * moments_of(activation, q).square + bias_variance) / q - 1

    here = excess(math.log(start))
    if abs(here) < 1e-10:
        return start
    table = _moments_over_q(activation)
    beyond = table.q > start if here > 0 else table.q < start
    logs = np.log(table.q[beyond])
    signs = weight_variance * table.square[beyond] + bias_variance - table.q[beyond]
    if here < 0:
        logs, signs = logs[::-1], -signs[::-1]
    crossed = np.flatnonzero(signs <= 0)
    if not len(crossed):
        return math.inf if here > 0 else 0.0
    first = int(crossed[0])
    near = math.log(start) if first == 0 else float(logs[first - 1])
    return math.exp(optimize.brentq(excess, near, float(logs[first]), xtol=1e-12))


def phase_point(phi: Elementwise, weight_variance: float, bias_variance: float, start: float = 1.0) -> PhasePoint:
    """Phase of a network whose layers all have these variances.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        weight_variance: sigma_w^2.
        bias_variance: sigma_b^2.
        start: Second moment of the first pre-activations.

    Returns:
        Its fixed point, phase and depth scales.
    """
    q = fixed_point(phi, weight_variance, bias_variance, start)
    at = min(max(q, _LOWEST**2), _HIGHEST)
    found = moments_of(identify(phi), at)
    chi = weight_variance * found.slope
    critical = abs(chi - 1) < CRITICAL
    kind = "critical" if critical else "ordered" if chi < 1 else "chaotic"
    correlation = 1.0
    if chi >= 1 + CRITICAL:
        correlation = _settled_correlation(phi, weight_variance, bias_variance, at)
    steepness = chi if correlation == 1 else weight_variance * slope_product(phi, at, correlation)
    return PhasePoint(
        weight_variance,
        bias_variance,
        q,
        chi,
        correlation,
        kind,
        _depth(_passed_on(found, weight_variance)) if math.isfinite(q) else None,
        None if critical else _depth(steepness),
    )


def _passed_on(found: Moments, weight_variance: float) -> float:
    """dq'/dq."""
    return weight_variance * found.growth


def _depth(factor: float) -> float | None:
    """Layers within which a deviation falls by e, if each multiplies it by `factor`; None at criticality and above."""
    size = abs(factor)
    if size >= 1 - CRITICAL:
        return None
    return -1 / math.log(size) if size > 0 else 0.0


def _settled_correlation(phi: Elementwise, weight_variance: float, bias_variance: float, q: float) -> float:
    """The fixed point below 1 of the correlation's map, which exists where its slope at 1 is above 1.

    E[phi(u) phi(v)] is a power series of c with coefficients >= 0, so that on [0, 1] the map is convex: it crosses the diagonal
    once, or its value at 0 is 0.
    """
    activation = identify(phi)
    total = weight_variance * moments_of(activation, q).square + bias_variance

    def excess(c: float) -> float:
        return (weight_variance * product_of(activation, q, c) + bias_variance) / total - c

    if excess(0.0) < 1e-9:
        return 0.0
    high = 1 - 1e-6
    return optimize.brentq(excess, 0.0, high, xtol=1e-9) if excess(high) < 0 else 1.0


class CriticalLine(NamedTuple):
    """Points with chi = 1 at their own fixed point: the edge of chaos, by increasing q*.

    Attributes:
        q: Second moment that is preserved.
        sigma_w: sqrt(fan_in * Var W).
        sigma_b: Standard deviation of the biases.
    """

    q: tuple[float, ...]
    sigma_w: tuple[float, ...]
    sigma_b: tuple[float, ...]


def critical_line(phi: Elementwise, q: Sequence[float]) -> CriticalLine:
    """The critical line, by the second moment that it preserves: sigma_w^2 = 1/E[phi'^2], sigma_b^2 = q - sigma_w^2 E[phi^2].

    tanh, erf and hard-tanh have a line that begins at (1/|phi'(0)|, 0); ReLU has the point (sqrt(2), 0) alone, for every q.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        q: Second moments, positive.

    Returns:
        The points that exist: those with sigma_b^2 >= 0.
    """
    points = []
    for value in sorted(q):
        found = moments_of(identify(phi), value)
        if found.slope <= 0:
            continue
        bias_variance = value - found.square / found.slope
        if bias_variance >= -1e-12 * value:
            points.append((value, math.sqrt(1 / found.slope), math.sqrt(max(bias_variance, 0.0))))
    qs, weights, biases = zip(*points, strict=True) if points else ((), (), ())
    return CriticalLine(qs, weights, biases)


def phase_grid(phi: Elementwise, sigma_w: Sequence[float], sigma_b: Sequence[float]) -> Float64[np.ndarray, "biases weights"]:
    """Chi at the fixed point reached from q = 1, for each pair: the phase picture.

    Moments are taken once on a grid of q, and fixed points interpolated between its values, so that a picture takes no longer
    than a few points; chi is right to about 1e-3.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        sigma_w: Square roots of fan_in * Var W, along the columns.
        sigma_b: Standard deviations of the biases, along the rows.
    """
    table = _moments_over_q(identify(phi))
    weight, bias = np.asarray(sigma_w, np.float64) ** 2, np.asarray(sigma_b, np.float64) ** 2
    excess = (weight[None, :, None] * table.square + bias[:, None, None]) / table.q - 1
    middle = len(_GRID) // 2
    grows = excess[..., middle] > 1e-10
    stays = np.abs(excess[..., middle]) <= 1e-10
    place = np.where(grows, _next_zero(excess[..., middle:]) + middle, middle - _next_zero(-excess[..., middle::-1]))
    place = np.where(stays, middle, place)
    return weight[None, :] * np.interp(place, np.arange(len(_GRID)), table.slope)


def _next_zero(excess: np.ndarray) -> np.ndarray:
    """Where along the last axis values first fall to 0, between the steps; the last step if they do not."""
    below = excess <= 0
    first = np.where(below.any(-1), below.argmax(-1), excess.shape[-1] - 1)
    before = np.maximum(first - 1, 0)
    high, low = (np.take_along_axis(excess, index[..., None], -1)[..., 0] for index in (before, first))
    share = np.where(high > low, high / np.where(high > low, high - low, 1.0), 1.0)
    return before + np.clip(share, 0.0, 1.0) * (first - before)
