"""Spectra of J J^T, the input-output Jacobian of a deep random network, by free probability.

With M(lambda) = sum_k m_k/lambda^k over the moments of the spectrum and the S-transform S(z) = (1 + z)/(z M^-1(z)), which
multiplies where independent factors do, J = prod_l D_l W_l has S = S_{W W^T}^L S_{D^2}^L. The density follows from
lambda = (1 + z)/(z S(z)) solved for z = M(lambda): it is -Im (1 + z)/(pi lambda) just above the real axis.

Source: Pennington, Schoenholz, Ganguli 2018, The emergence of spectral universality in deep networks, AISTATS (the lecture's
reference 27), for the product and the two classes; edges and variances are derived from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64
from scipy import optimize

from deepforward.errors import InvalidOption
from deepforward.theory.quadrature import Elementwise, derivative, kinks, normal_nodes

#: z and ln lambda along a curve of complex parameters.
Curve = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

#: Values of phi'^2 that a spectrum is computed from; more are joined to their means.
_ATOMS = 128


@dataclass(frozen=True)
class Spectrum:
    """The law of the eigenvalues of J J^T for infinite width.

    Attributes:
        mean: Mean eigenvalue, chi^L.
        variance: Their variance.
    """

    mean: float
    variance: float
    _curve: Curve = field(repr=False)
    _start: Callable[[np.ndarray], np.ndarray] = field(repr=False)  # parameter at a large lambda
    _real: np.ndarray = field(repr=False)  # parameters of lambda above the spectrum

    @property
    def edge(self) -> float:
        """The largest eigenvalue: the least lambda above which z is real."""
        heights = self._curve(self._real)[1]
        lowest = int(np.argmin(heights))
        low, high = sorted(float(self._real[min(max(i, 0), len(heights) - 1)]) for i in (lowest - 1, lowest + 1))
        found = optimize.minimize_scalar(
            lambda x: float(self._curve(np.array([x]))[1][0]), bounds=(low, high), method="bounded", options={"xatol": 1e-12}
        )
        return math.exp(min(float(found.fun), float(heights[lowest])))

    def density(self, eigenvalues: Float64[np.ndarray, "points"]) -> Float64[np.ndarray, "points"]:
        """Density at positive numbers, seen with a resolution of 1e-4 of each; an atom is a peak of that width.

        z is followed from far above the real axis, where it is mean/lambda, down to 1e-4 above each point, by Newton's method:
        in the upper half plane there is no other branch to stray to.
        """
        above = 100 * max(self.edge, self.mean)
        heights = np.geomspace(above, 1e-4 * eigenvalues, 120)
        parameters = self._start(eigenvalues + 1j * heights[0])
        for height in heights:
            target = eigenvalues + 1j * height
            for _ in range(4):
                z, log_lambda = self._curve(parameters)
                step = 1e-6 * parameters
                slope = (self._curve(parameters + step)[1] - log_lambda) / step
                miss = log_lambda - np.log(target)
                parameters = parameters - (miss - 2j * np.pi * np.round(miss.imag / (2 * np.pi))) / slope
        z = self._curve(parameters)[0]
        density: np.ndarray = -((1 + z) / target).imag / np.pi
        return density


def _from_s(log_s: Callable[[np.ndarray], np.ndarray], mean: float, relative_variance: float) -> Spectrum:
    """A spectrum of which ln S(z) is known."""
    return Spectrum(
        mean,
        relative_variance * mean**2,
        lambda z: (z, np.log((1 + z) / z) - log_s(z)),
        lambda eigenvalues: mean / eigenvalues,
        np.geomspace(1e-9, 1e9, 1801),
    )


def gaussian_linear(depth: int, weight_variance: float = 1.0) -> Spectrum:
    """Product of `depth` square Gaussian matrices, S = (sigma_w^2 (1 + z))^-L.

    With sigma_w = 1 the variance is L and the edge (L + 1)^(L + 1)/L^L: the spectrum spreads with depth although its mean is 1.

    Raises:
        InvalidOption: `depth` is below 1 or `weight_variance` not positive.
    """
    _check(depth=depth, weight_variance=weight_variance)
    return _from_s(lambda z: -depth * (np.log(weight_variance) + np.log(1 + z)), weight_variance**depth, depth)


def bernoulli_class(variance: float) -> Spectrum:
    """Infinite depth, orthogonal weights, phi' that is 0 or 1 (hard-tanh, shifted ReLU): S = exp(-s0^2 z/(1 + z)).

    The edge is e^(s0^2) where s0 <= 1, with an atom of 1 - s0^2 on it, and e s0^2 above.

    Args:
        variance: s0^2, which q is chosen for at each depth.

    Raises:
        InvalidOption: `variance` is not positive.
    """
    _check(variance=variance)
    return _from_s(lambda z: -variance * z / (1 + z), 1.0, variance)


def smooth_class(variance: float) -> Spectrum:
    """Infinite depth, orthogonal weights, smooth odd phi (erf, tanh, arctan): S = exp(-s0^2 z).

    Args:
        variance: s0^2, which q is chosen for at each depth.

    Raises:
        InvalidOption: `variance` is not positive.
    """
    _check(variance=variance)
    return _from_s(lambda z: -variance * z, 1.0, variance)


def jacobian_spectrum(phi: Elementwise, q: float, depth: int, weight_variance: float, *, orthogonal: bool) -> Spectrum:
    """Spectrum of J J^T for `depth` layers whose pre-activations have second moment q.

    mean = chi^L, variance = L (E[phi'^4]/E[phi'^2]^2 - 1) chi^2L for orthogonal weights; Gaussian ones add L chi^2L.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        q: Second moment of the pre-activations, the same in each layer.
        depth: Number of layers L, each a square matrix and phi.
        weight_variance: sigma_w^2.
        orthogonal: Weights sigma_w times an orthogonal matrix, rather than Gaussian.

    Raises:
        InvalidOption: A number is out of range, or phi' = 0 everywhere.
    """
    _check(q=q, depth=depth, weight_variance=weight_variance)
    squares, weights = _slope_squares(phi, q)
    first, second = float(weights @ squares), float(weights @ squares**2)
    _check(**{"E[phi'^2]": first})
    chi, largest = weight_variance * first, float(squares.max())

    def curve(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parametrised by w = M^-1(z) of D^2, whose S is (1 + z)/(z w)."""
        z = (weights * squares / (w[..., None] - squares)).sum(-1)
        layer = np.log(z) + np.log(w) + np.log(weight_variance)
        return z, np.log((1 + z) / z) + depth * (layer if not orthogonal else layer - np.log(1 + z))

    spread = depth * (second / first**2 - 1 + (0 if orthogonal else 1))
    return Spectrum(
        chi**depth,
        spread * chi ** (2 * depth),
        curve,
        lambda eigenvalues: eigenvalues * first / chi**depth,
        largest * (1 + np.geomspace(1e-9, 1e9, 1801)[::-1]),
    )


def _slope_squares(phi: Elementwise, q: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of phi'^2 and their probabilities; equal ones are one, and many are joined in groups of equal weight."""
    z, weights = normal_nodes(q, kinks(phi))
    values, place = np.unique(np.round(derivative(phi, math.sqrt(q) * z)[1].numpy() ** 2, 13), return_inverse=True)
    shares = np.bincount(place, weights.numpy())
    if len(values) > _ATOMS:
        group = np.minimum((np.cumsum(shares) * _ATOMS).astype(int), _ATOMS - 1)
        total = np.bincount(group, shares, _ATOMS)
        kept = total > 0
        values, shares = (np.bincount(group, shares * values, _ATOMS)[kept] / total[kept], total[kept])
    return values, shares / shares.sum()


def _check(**numbers: float) -> None:
    for name, value in numbers.items():
        least = 1 if name == "depth" else 0
        if not (math.isfinite(value) and value > 0 and value >= least):
            raise InvalidOption(f"got {name} = {value}; expected a positive finite number; choose another {name}")
