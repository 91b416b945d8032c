"""Fixed points of a map, found and classified: where iteration can end, and whether it does.

Near a fixed point x* every application multiplies a small displacement by f'(x*), in several dimensions by the Jacobian.
So the moduli of these multipliers decide, not their signs (E26): x* is a sink if all are below 1, a source if all are above 1.

Source: Katok, Hasselblatt 1995, Introduction to the modern theory of dynamical systems, chapter 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vjp

from deepforward.errors import Diverged, InvalidData, InvalidOption, ShapeError

#: A function from points to points that torch can differentiate.
Map = Callable[[Tensor], Tensor]

Stability = Literal["sink", "source", "saddle", "neutral"]


def stability(multipliers: Iterable[complex], tolerance: float = 1e-8) -> Stability:
    """What happens to a small displacement that is multiplied by these numbers again and again.

    Args:
        multipliers: The slope, or the eigenvalues of the Jacobian.
        tolerance: How near to 1 a modulus must be to count as 1; a double root is found to about this.

    Returns:
        `sink` if the largest modulus (the spectral radius) is below 1, `neutral` if it is 1, `source` if all moduli are above
        1, else `saddle`: something grows and something does not.
    """
    sizes = [abs(m) - 1 for m in multipliers]
    if max(sizes) < -tolerance:
        return "sink"
    if max(sizes) <= tolerance:
        return "neutral"
    return "source" if min(sizes) > tolerance else "saddle"


@dataclass(frozen=True)
class FixedPoint:
    """A point that the map leaves where it is.

    Attributes:
        point: Its coordinates.
        multipliers: Eigenvalues of the Jacobian there, the largest modulus first; in one dimension the slope.
    """

    point: tuple[float, ...]
    multipliers: tuple[complex, ...]

    @property
    def spectral_radius(self) -> float:
        """Largest modulus of a multiplier: the factor a step by which the distance to the point changes in the end."""
        return max(map(abs, self.multipliers))

    @property
    def kind(self) -> Stability:
        """See `stability`."""
        return stability(self.multipliers)


def iterated(f: Map, n: int) -> Map:
    """F composed with itself n times; its fixed points are the cycles of f whose length divides n."""

    def composed(x: Tensor) -> Tensor:
        for _ in range(n):
            x = f(x)
        return x

    return composed


def fixed_points(f: Map, low: float, high: float, samples: int = 2001) -> list[FixedPoint]:
    """All fixed points of a map of the line in an interval that are told apart by evenly spaced samples.

    Between samples, f(x) - x is bisected where it changes sign, and so is its slope: where the slope vanishes the graph may
    touch the diagonal without crossing it. Jumps across the diagonal are no fixed points.

    Args:
        f: An elementwise function of a float64 tensor.
        low: Left end of the interval.
        high: Right end.
        samples: Number of samples; two fixed points nearer to each other than their distance may be missed.

    Returns:
        The fixed points from left to right, each with f' there.

    Raises:
        InvalidOption: The interval is empty, or there are fewer than two samples.
        InvalidData: f is not finite at a sample, or leaves a whole interval where it is.
        ShapeError: f is not elementwise.
    """
    if not low < high or samples < 2:
        raise InvalidOption(f"got {samples} samples of [{low:g}, {high:g}]; expected at least 2 of an interval; choose others")
    x = torch.linspace(low, high, samples, dtype=torch.float64)
    gap, slope = _gap(f, x)
    if not gap.isfinite().all():
        where = x[~gap.isfinite()][0].item()
        raise InvalidData(f"got a map that is not finite at {where:g}; expected finite values; choose another interval")
    still = (gap == 0).unfold(0, 3, 1).all(1) if samples >= 3 else torch.zeros(0, dtype=torch.bool)
    if still.any():
        where = x[1:-1][still][0].item()
        raise InvalidData(f"got a map that leaves all points near {where:g} as they are; expected isolated fixed points")
    scale = torch.maximum(x.abs(), (gap + x).abs()).max().clamp(min=torch.finfo(torch.float64).tiny)
    turning = _bisect(lambda x: _gap(f, x)[1], x, slope)
    x, order = torch.cat([x, turning]).sort()
    gap = _gap(f, x)[0]
    # Rounding decides on which side of the diagonal a graph that only touches it seems to be.
    touches = (order >= samples) & (gap.abs() <= 1e-13 * scale)
    gap[touches] = 0.0
    crossings = _bisect(lambda x: _gap(f, x)[0], x, gap)
    roots = torch.cat([x[gap == 0], crossings]).sort().values
    gap, slope = _gap(f, roots)
    isolated = gap.abs() <= 1e-6 * scale  # at a jump the gap stays as large as the jump
    return [FixedPoint((x,), (s + 1,)) for x, s in zip(roots[isolated].tolist(), slope[isolated].tolist(), strict=True)]


def _gap(f: Map, x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) - x and its slope."""
    y, pull = vjp(f, x)[:2]
    if y.shape != x.shape:
        raise ShapeError(f"got {tuple(y.shape)} values at {tuple(x.shape)} points; expected an elementwise map")
    return y - x, pull(torch.ones_like(y))[0] - 1


def _bisect(function: Map, x: Tensor, values: Tensor) -> Tensor:
    """Where a function changes sign between neighbouring x, to the last bit; a zero at an x itself is no change."""
    changes = values[:-1] * values[1:] < 0
    low, high = x[:-1][changes], x[1:][changes]
    rises = values[1:][changes] > 0
    for _ in range(64):
        middle = (low + high) / 2
        is_right = (function(middle) > 0) == rises
        low, high = torch.where(is_right, low, middle), torch.where(is_right, middle, high)
    return high


def fixed_point_near(f: Map, start: Float[Tensor, " n"], steps: int = 100) -> FixedPoint:
    """The fixed point of a map of R^n to which Newton's method leads: x <- x - (J - I)^-1 (f(x) - x), J the Jacobian at x.

    Unlike iteration of f it finds sources and saddles too.

    Args:
        f: A map from (n,) to (n,) that `torch.func` can differentiate.
        start: Where to begin.
        steps: Most steps of Newton's method.

    Raises:
        ShapeError: f changes the shape.
        Diverged: The method left for infinity, met a singular J - I, or did not settle.
    """
    x, eye = start.double(), torch.eye(len(start), dtype=torch.float64, device=start.device)
    for _ in range(steps):
        y, pull = vjp(f, x)[:2]
        if y.shape != x.shape:
            raise ShapeError(f"got {tuple(y.shape)} from {tuple(x.shape)}; expected a map to the same space")
        jacobian = torch.stack([pull(row)[0] for row in eye])
        step, fault = torch.linalg.solve_ex(jacobian - eye, x - y)
        if fault.item() or not step.isfinite().all():
            break
        x = x + step
        if step.norm() <= 1e-13 * max(1.0, x.norm().item()):
            multipliers = sorted(torch.linalg.eigvals(jacobian).tolist(), key=abs, reverse=True)
            return FixedPoint(tuple(x.tolist()), tuple(multipliers))
    raise Diverged(f"got no fixed point after {steps} Newton steps from {start.tolist()}; expected one near; start elsewhere")


def fixed_points_from(f: Map, starts: Float[Tensor, "starts n"], apart: float = 1e-6) -> list[FixedPoint]:
    """The different fixed points that Newton's method finds from several starts, in the order in which they are found.

    Args:
        f: A map from (n,) to (n,).
        starts: Where to begin; starts that lead nowhere are passed over.
        apart: Distance from which two points count as different.
    """
    found: list[FixedPoint] = []
    for start in starts:
        try:
            new = fixed_point_near(f, start)
        except Diverged:
            continue
        if all(torch.dist(torch.tensor(new.point), torch.tensor(old.point)).item() > apart for old in found):
            found.append(new)
    return found
