"""The logistic map composed with itself: what depth does to a slope, without a network.

f(x) = r x (1 - x) on [0, 1]. Each composition multiplies the slope once more, f^n has up to 2^n monotone pieces (laps), and the
orbit ends on a fixed point, on a cycle, or in chaos.

Source: the lecture's section on reasoning iteratively; Milnor and Thurston 1988, "On iterated maps of the interval", for laps;
May 1976, "Simple mathematical models with very complicated dynamics", Nature 261, for the cycles.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.errors import InvalidOption, MissingExtra
from deepforward.theory.fixed_points import Stability, stability

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class Cycle:
    """Points that the map visits in turn for ever; a fixed point is a cycle of one.

    Attributes:
        points: In the order of the visits, beginning with the smallest.
        multiplier: Slope of f^n along the cycle, the product of f' over its n points.
    """

    points: tuple[float, ...]
    multiplier: float

    @property
    def kind(self) -> Stability:
        """`sink` if |multiplier| < 1, `source` if it is > 1, else `neutral`.

        The modulus matters (E26): the slope -1.5 is below 1 and belongs to a source.
        """
        return stability([self.multiplier])


@dataclass(frozen=True)
class LogisticMap:
    """f(x) = r x (1 - x) on [0, 1].

    Attributes:
        r: Growth rate in (0, 4], for which f maps [0, 1] into itself.

    Raises:
        InvalidOption: `r` is outside (0, 4].
    """

    r: float

    def __post_init__(self) -> None:
        if not 0 < self.r <= 4:
            raise InvalidOption(f"got r = {self.r}; expected 0 < r <= 4, where [0, 1] maps into itself; choose another r")

    def iterate(self, x: Float[Tensor, "*shape"], n: int) -> Float[Tensor, "*shape"]:
        """f^n(x), f applied n times."""
        for _ in range(n):
            x = self.r * x * (1 - x)
        return x

    def derivative(self, x: Float[Tensor, "*shape"], n: int) -> Float[Tensor, "*shape"]:
        """Slope of f^n at x by the chain rule, the product of f'(x_k) = r (1 - 2 x_k) along the orbit.

        Its largest modulus on [0, 1] is r^n, at the fixed point 0 and at 1, where every factor is as large as it can be.
        """
        slope = torch.ones_like(x)
        for _ in range(n):
            slope = slope * self.r * (1 - 2 * x)
            x = self.r * x * (1 - x)
        return slope

    def orbit(self, x: float, n: int) -> list[float]:
        """x, f(x), ..., f^n(x)."""
        return list(itertools.islice(self._orbit(x), n + 1))

    def cobweb(self, x: float, n: int) -> list[tuple[float, float]]:
        """Corners of the staircase between the curve y = f(x) and the diagonal, from (x, 0), for n applications."""
        orbit = self.orbit(x, n)
        corners = [(x, 0.0)]
        for before, after in itertools.pairwise(orbit):
            corners += [(before, after), (after, after)]
        return corners

    def laps(self, n: int) -> int:
        """Number of maximal intervals on which f^n is monotone, exact for the float r.

        A lap of f^n ends where an earlier iterate passes the critical point 1/2. So the image of a lap under f^n runs between
        points of the critical orbit, and the lap splits at the next step if 1/2 is strictly inside. The orbit is computed in
        rational arithmetic, whose numbers double in length with each step: meant for n up to about 15.
        """
        r, half = Fraction(self.r), Fraction(1, 2)
        images = Counter({(Fraction(0), Fraction(1)): 1})
        for _ in range(n):
            split: Counter[tuple[Fraction, Fraction]] = Counter()
            for (low, high), count in images.items():
                for piece in [(low, half), (half, high)] if low < half < high else [(low, high)]:
                    a, b = (r * x * (1 - x) for x in piece)
                    split[min(a, b), max(a, b)] += count
            images = split
        return images.total()

    def fixed_points(self) -> list[Cycle]:
        """The fixed points 0 and, for r > 1, 1 - 1/r, with slopes r and 2 - r."""
        zero = Cycle((0.0,), self.r)
        return [zero, Cycle((1 - 1 / self.r,), 2 - self.r)] if self.r > 1 else [zero]

    def attracting_cycle(self, longest: int = 64, settle: int = 10_000) -> Cycle | None:
        """The sink on which almost every orbit ends, or None if no cycle of up to `longest` points is one, as in chaos.

        The critical point is attracted to it if there is one, so its orbit is followed after `settle` steps.

        Source: Singer 1978, "Stable orbits and bifurcation of maps of the interval": at most one attracting cycle, and the
        critical point finds it.
        """
        ahead = self._orbit(self.orbit(0.5, settle)[-1])
        points: list[float] = []
        for x in itertools.islice(ahead, longest + 1):
            if points and abs(x - points[0]) < 1e-9:
                first = points.index(min(points))
                cycle = Cycle((*points[first:], *points[:first]), math.prod(self.r * (1 - 2 * p) for p in points))
                return cycle if cycle.kind == "sink" else None
            points.append(x)
        return None

    def lyapunov_exponent(self, x: float, n: int, settle: int = 1000) -> float:
        """Mean of log |f'| along n points of the orbit of x, in nats a step: the rate at which a slope grows with depth.

        -inf if the orbit meets the critical point.
        """
        settled = itertools.islice(self._orbit(x), settle, settle + n)
        slopes = [abs(self.r * (1 - 2 * point)) for point in settled]
        return -math.inf if 0.0 in slopes else math.fsum(map(math.log, slopes)) / n

    def composition(self, n: int) -> sympy.Poly:
        """f^n as a polynomial of degree 2^n with exact coefficients.

        Raises:
            MissingExtra: sympy is not installed.
        """
        try:
            import sympy  # noqa: PLC0415  optional, and slow to import
        except ImportError as error:
            raise MissingExtra("got no sympy, which symbolic composition needs; pip install 'deepforward[theory]'") from error
        x = sympy.Symbol("x")
        composed = sympy.Poly(x)
        for _ in range(n):
            composed = sympy.Rational(Fraction(self.r)) * composed * (1 - composed)
        return composed

    def _orbit(self, x: float) -> Iterator[float]:
        while True:
            yield x
            x = self.r * x * (1 - x)


def bifurcation_diagram(rates: Float[Tensor, " rates"], points: int = 64, settle: int = 2000) -> Float[Tensor, "rates points"]:
    """Where the orbit of the logistic map lives in the end, for each growth rate: one point, a cycle, or the bands of chaos.

    The critical point 1/2 is followed, since it finds the attracting cycle wherever there is one.

    Args:
        rates: Growth rates r in (0, 4].
        points: Successive points that are kept of each orbit.
        settle: Steps before the first of them.

    Returns:
        The points in the order of the visits, float64.

    Raises:
        InvalidOption: A rate is outside (0, 4].
    """
    outside = ~((rates > 0) & (rates <= 4))
    if outside.any():
        raise InvalidOption(f"got r = {rates[outside][0].item():g}; expected 0 < r <= 4, where [0, 1] maps into itself")
    r = rates.double()
    x = torch.full_like(r, 0.5)
    for _ in range(settle):
        x = r * x * (1 - x)
    visited = []
    for _ in range(points):
        visited.append(x)
        x = r * x * (1 - x)
    return torch.stack(visited, dim=1)
