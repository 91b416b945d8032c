"""What can be said of the singular values of a matrix that is known by its products with vectors."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor


@runtime_checkable
class LinearMap(Protocol):
    """A matrix J of shape (outputs, inputs) that is not held; vectors are rows."""

    inputs: int
    outputs: int

    def forward(self, vectors: Tensor) -> Tensor:
        """J u for each row u."""

    def transposed(self, vectors: Tensor) -> Tensor:
        """J^T v for each row v."""


class Moments(NamedTuple):
    """Moments of the squared singular values s^2 of J, n = min(inputs, outputs) of them.

    Attributes:
        m1: Mean of s^2, tr(J J^T) / n.
        m2: Mean of s^4, tr((J J^T)^2) / n.
        isometry_defect: m2 / m1^2 - 1, the variance of s^2 over its mean squared; 0 for a multiple of an isometry.
        error: Standard error of the defect; 0 where all singular values are known.
    """

    m1: float
    m2: float
    isometry_defect: float
    error: float


def exact_moments(singular_values: Float64[Tensor, " values"]) -> Moments:
    """Moments from all singular values."""
    squares = singular_values**2
    m1, m2 = float(squares.mean()), float((squares**2).mean())
    return Moments(m1, m2, float(((squares / squares.mean()) ** 2).mean()) - 1 if m1 > 0 else math.nan, 0.0)


def estimated_moments(J: LinearMap, probes: int, rng: torch.Generator) -> Moments:
    """Hutchinson's estimates from random signs v: E |J^T v|^2 = tr(J J^T), E |J J^T v|^2 = tr((J J^T)^2).

    Where the model gives no products J u, the second trace comes from pairs of probes, E (v^T J J^T w)^2, which is less exact.

    Args:
        J: The map.
        probes: Number of random vectors, at least 2.
        rng: Draws them.

    Source:
        Hutchinson 1990, A stochastic estimator of the trace of the influence matrix. The error is that of a ratio of means,
        from the scatter of the probes, to first order in 1 / probes; of pairs, from leaving out one probe at a time.
    """
    signs = torch.randint(0, 2, (probes, J.outputs), generator=rng).double() * 2 - 1
    pulled, n = J.transposed(signs), min(J.inputs, J.outputs)
    scale = float(pulled.norm() ** 2) / probes / n
    if scale == 0:
        return Moments(0.0, 0.0, math.nan, math.nan)
    pulled = pulled / math.sqrt(scale)
    first = (pulled**2).sum(1) / n
    try:
        second = (J.forward(pulled) ** 2).sum(1) / n / scale
    except RuntimeError:
        return _from_pairs(pulled, scale, n)
    # The mean of `first` is 1.
    m2 = float(second.mean())
    influence = (second - second.mean()) - 2 * m2 * (first - 1)
    return Moments(scale, m2 * scale**2, m2 - 1, float(influence.std()) / math.sqrt(probes))


def _from_pairs(pulled: Tensor, scale: float, n: int) -> Moments:
    """Moments from vectors J^T v that are scaled so that the mean of |J^T v|^2 / n is 1."""
    products = pulled @ pulled.T
    first = products.diagonal() / n
    squares = products.fill_diagonal_(0) ** 2 / n
    count, total, sums = len(pulled), float(squares.sum()), squares.sum(1)
    m2 = total / (count * (count - 1))
    if count < 3:
        return Moments(scale, m2 * scale**2, m2 - 1, math.nan)
    without = (total - 2 * sums) / ((count - 1) * (count - 2)) / ((count - first) / (count - 1)) ** 2
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    return Moments(scale, m2 * scale**2, m2 - 1, error)


def largest_singular_value(J: LinearMap, rng: torch.Generator, steps: int = 24, tolerance: float = 1e-4) -> float:
    """Largest singular value by Lanczos (Golub-Kahan) bidiagonalisation with full reorthogonalisation; a lower bound.

    The other end of the spectrum converges far more slowly: the smallest value of the bidiagonal matrix says nothing of the
    smallest singular value, and no condition number can be had in this way.

    Args:
        J: The map.
        rng: Draws the first vector.
        steps: At most so many products with J and J^T each.
        tolerance: Stop when the value grew by less than this share over two steps in a row.

    Source:
        Golub, Kahan 1965, Calculating the singular values and pseudo-inverse of a matrix.

    Raises:
        RuntimeError: The model gives no products J u.
    """
    right = [_unit(J.transposed(torch.randn(1, J.outputs, generator=rng, dtype=torch.float64)))]
    left: list[Tensor] = []
    diagonal: list[float] = []
    above: list[float] = []
    values = [0.0]
    for _ in range(min(steps, J.inputs, J.outputs)):
        u = _orthogonal(J.forward(right[-1]), left)
        diagonal.append(float(u.norm()))
        values.append(_norm_of_bidiagonal(diagonal, above))
        if diagonal[-1] <= 1e-12 * values[-1] or (len(values) > 3 and values[-1] <= values[-3] * (1 + tolerance)):
            break
        left.append(u / diagonal[-1])
        v = _orthogonal(J.transposed(left[-1]), right)
        above.append(float(v.norm()))
        if above[-1] <= 1e-12 * values[-1]:
            break
        right.append(v / above[-1])
    return values[-1]


def _norm_of_bidiagonal(diagonal: list[float], above: list[float]) -> float:
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if above:
        matrix += torch.diag(torch.tensor(above, dtype=torch.float64), 1)
    return float(torch.linalg.matrix_norm(matrix, 2))


def _orthogonal(vector: Tensor, to: list[Tensor]) -> Tensor:
    """The part of a vector at right angles to orthonormal ones, projected twice against rounding."""
    if to:
        basis = torch.cat(to)
        for _ in range(2):
            vector = vector - (vector @ basis.T) @ basis
    return vector


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm().clamp_min(torch.finfo(torch.float64).tiny)
