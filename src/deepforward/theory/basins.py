"""Basins of attraction: which starting points end on which attractor, and the frontier between them.

Inside a basin the composed map forgets where it began and its gradient vanishes; at a frontier the end jumps, so it explodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.func import vjp

from deepforward.errors import InvalidOption, ShapeError, TooLarge
from deepforward.theory.fixed_points import Map

#: Labels of points that reached no attractor within the steps, and of those that left for infinity.
UNSETTLED, ESCAPED = -1, -2

#: Attractors that are told apart at most; a map that moves nothing has one at every point.
_MOST_ATTRACTORS = 256


@dataclass(frozen=True, eq=False)
class Basins:
    """Where starting points end.

    Attributes:
        labels: Index of the attractor of each start, or `UNSETTLED` or `ESCAPED`.
        steps: Applications of the map until it had settled or escaped; the most allowed where it did neither.
        attractors: (period, dimension) points of each attractor: a sink, or a cycle of several points.
    """

    labels: Int[Tensor, "*starts"]
    steps: Int[Tensor, "*starts"]
    attractors: tuple[Float[Tensor, "period dimension"], ...]

    def shares(self, region: Bool[Tensor, "*starts"] | None = None) -> list[float]:
        """Share of the starts (of those in `region`, if given) that end on each attractor."""
        labels = self.labels if region is None else self.labels[region]
        return [(labels == k).double().mean().item() for k in range(len(self.attractors))]

    def frontier(self) -> Bool[Tensor, "height width"]:
        """Whether a start of a grid has a neighbour to the right or below, or is one, that ends elsewhere.

        Raises:
            ShapeError: The starts were no grid.
        """
        if self.labels.ndim != 2:
            raise ShapeError(f"got starts of shape {tuple(self.labels.shape)}; expected a grid (height, width); see `grid`")
        frontier = torch.zeros_like(self.labels, dtype=torch.bool)
        down, right = self.labels[1:] != self.labels[:-1], self.labels[:, 1:] != self.labels[:, :-1]
        frontier[1:] |= down
        frontier[:-1] |= down
        frontier[:, 1:] |= right
        frontier[:, :-1] |= right
        return frontier


def grid(low: tuple[float, float], high: tuple[float, float], size: int) -> Float[Tensor, "size size 2"]:
    """Points of a rectangle of the plane, `size` a side, ends included, as a picture: x to the right, y upwards.

    Raises:
        InvalidOption: The rectangle is empty, or has fewer than two points a side.
    """
    if not (low[0] < high[0] and low[1] < high[1]) or size < 2:
        raise InvalidOption(f"got {size} points a side from {low} to {high}; expected at least 2 and low below high")
    x, y = (torch.linspace(a, b, size, dtype=torch.float64) for a, b in zip(low, high, strict=True))
    return torch.stack(torch.meshgrid(x, y.flip(0), indexing="xy"), dim=-1)


def basins(
    f: Map,
    starts: Float[Tensor, "*starts dimension"],
    *,
    period: int = 1,
    steps: int = 500,
    tolerance: float = 1e-9,
    apart: float = 1e-4,
    escape: float = 1e12,
) -> Basins:
    """Iterate a map from many starts until each has settled, and tell the attractors apart.

    Args:
        f: A map of points along the first axis, (points, dimension) to (points, dimension).
        starts: Where to begin, in any arrangement, for example `grid`.
        period: Longest cycle that counts as settled; cycles whose length divides it are found, sinks always.
        steps: Most applications, rounded up to a multiple of `period`.
        tolerance: A start has settled when `period` applications move it by no more, relative to its size if above 1.
        apart: Distance from which two ends belong to different attractors.
        escape: Distance from the origin from which a point counts as gone to infinity.

    Raises:
        ShapeError: f changes the shape, or a start has no axis of coordinates.
        TooLarge: There are more than 256 attractors.
    """
    if starts.ndim < 1 or not starts.shape[-1]:
        raise ShapeError(f"got starts of shape {tuple(starts.shape)}; expected (..., dimension); give coordinates")
    points = starts.reshape(-1, starts.shape[-1]).double()
    labels = torch.full((len(points),), UNSETTLED, device=points.device)
    taken = torch.full_like(labels, -(-steps // period) * period)
    ends, active = points.clone(), torch.arange(len(points), device=points.device)
    for step in range(period, steps + period, period):
        before = ends[active]
        after = _apply(f, before, period)
        size = after.norm(dim=1)
        gone = ~(size <= escape)  # NaN too
        rests = (after - before).norm(dim=1) <= tolerance * size.clamp(min=1)
        ends[active], labels[active[gone]], labels[active[rests & ~gone]] = after, ESCAPED, 0
        taken[active[gone | rests]] = step
        active = active[~gone & ~rests]
        if not len(active):
            break
    attractors = _tell_apart(f, ends, labels, period, apart)
    shape = starts.shape[:-1]
    return Basins(labels.reshape(shape), taken.reshape(shape), attractors)


def _apply(f: Map, x: Tensor, times: int) -> Tensor:
    for _ in range(times):
        y = f(x)
        if y.shape != x.shape:
            raise ShapeError(f"got {tuple(y.shape)} from {tuple(x.shape)}; expected a map of points along the first axis")
        x = y
    return x


def _tell_apart(f: Map, ends: Tensor, labels: Tensor, period: int, apart: float) -> tuple[Tensor, ...]:
    """The attractors at the ends of settled starts, whose labels are set in place."""
    attractors: list[Tensor] = []
    left = (labels >= 0).nonzero()[:, 0]
    while len(left):
        if len(attractors) == _MOST_ATTRACTORS:
            raise TooLarge(f"got more than {_MOST_ATTRACTORS} attractors; expected few; take other starts or a larger `apart`")
        cycle = [ends[left[:1]]]
        for _ in range(period - 1):
            after = f(cycle[-1])
            if (after - cycle[0]).norm() <= apart:
                break
            cycle.append(after)
        attractor = torch.cat(cycle)
        belongs = torch.cdist(ends[left], attractor, compute_mode="donot_use_mm_for_euclid_dist").amin(1) <= apart
        belongs[0] = True
        labels[left[belongs]] = len(attractors)
        attractors.append(attractor)
        left = left[~belongs]
    return tuple(attractors)


def log_growth(
    f: Map, points: Float[Tensor, "points dimension"], direction: Float[Tensor, " dimension"], n: int
) -> Float[Tensor, " points"]:
    """How a gradient grows along the way: the logarithm of |J v|, J the Jacobian of f applied n times, |v| = 1.

    The displacement is brought back to length 1 after every step, so that nothing overflows; -inf where it vanishes.

    Args:
        f: A map of points along the first axis, each by itself.
        points: Where to begin.
        direction: v.
        n: Number of applications.
    """
    tangent = (direction / direction.norm()).expand_as(points)
    total = torch.zeros_like(points[:, 0])
    for _ in range(n):
        points, pull = vjp(f, points)[:2]
        rows = [pull(unit.expand_as(points))[0] for unit in torch.eye(len(direction), dtype=points.dtype, device=points.device)]
        tangent = torch.stack([(row * tangent).sum(1) for row in rows], dim=1)
        size = tangent.norm(dim=1)
        total = total + size.log()
        tangent = tangent / size.clamp(min=torch.finfo(size.dtype).tiny)[:, None]
    return total


def newton_map(coefficients: Shaped[Tensor, " degrees"]) -> Map:
    """Newton's method z - p(z)/p'(z) for a polynomial, as a map of the plane; its sinks are the roots of p.

    Args:
        coefficients: Of p, highest degree first, real or complex, at least two.

    Returns:
        A map of points (points, 2), the real and imaginary parts of z.

    Raises:
        InvalidOption: p is constant.
    """
    if coefficients.ndim != 1 or len(coefficients) < 2 or coefficients[0] == 0:
        raise InvalidOption(f"got coefficients {coefficients.tolist()}; expected a polynomial of degree 1 or more")
    leading = coefficients.to(torch.complex128).tolist()

    def step(points: Tensor) -> Tensor:
        z = torch.view_as_complex(points.contiguous())
        value, slope = torch.full_like(z, leading[0]), torch.zeros_like(z)
        for coefficient in leading[1:]:
            value, slope = value * z + coefficient, slope * z + value
        return torch.view_as_real(z - value / slope)

    return step
