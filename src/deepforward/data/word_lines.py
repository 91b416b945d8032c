"""The four lines that a written word stands on, fitted to the turning points of the pen.

    f_k(x) = curvature (x - origin)^2 + slope (x - origin) + offset_k,      k = ascender, core, base, descender

share slope and curvature. Each maximum of the pen's height is drawn from a mixture of a Gaussian about the ascender line, one
about the core line and a uniform density for outliers; each minimum alike from base and descender line. Priors keep the lines
in order where a word has few ascenders or none. Expectation maximisation climbs to a mode of the posterior from many starts.

Source: Bengio, LeCun 1994, "Word normalization for on-line handwritten word recognition", ICPR, for the model; the numbers of
the priors and the starts are our own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deepforward.errors import InvalidData, InvalidOption

LINES = ("ascender", "core", "base", "descender")

#: Priors, in units of the height of a short stroke: deviation of slope and of curvature about 0, mean and deviation of the
#: three distances between neighbouring lines, mode of the noise and the count of points it weighs, and pseudo-counts of each
#: line and of outliers.
_SLOPE, _CURVATURE, _GAP, _GAP_DEVIATION = 1.0, 0.2, 1.0, 0.4
_NOISE, _NOISE_WEIGHT, _LINE_COUNT, _OUTLIER_COUNT = 0.1, 4.0, 1.0, 0.5

#: Starts: slopes by curvatures about those of least squares, in standard errors of these.
_SLOPES, _CURVATURES = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0), (-1.5, 0.0, 1.5)
RESTARTS = len(_SLOPES) * len(_CURVATURES)


@dataclass(frozen=True)
class WordLines:
    """Four parallel parabolas.

    Attributes:
        slope: Rise per length at `origin`.
        curvature: Coefficient of (x - origin)^2, one over length.
        origin: x at which slope and offsets are told.
        offsets: Heights of ascender, core, base and descender line at `origin`.
    """

    slope: float
    curvature: float
    origin: float
    offsets: tuple[float, float, float, float]

    @property
    def core_height(self) -> float:
        """Distance between core and base line, the height of an `x`."""
        return self.offsets[1] - self.offsets[2]

    def rise(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """What slope and curvature add at x to the height at the origin."""
        return (self.curvature * (x - self.origin) + self.slope) * (x - self.origin)

    def at(self, origin: float) -> WordLines:
        """The same lines told at another origin."""
        shift = origin - self.origin
        rise = (self.curvature * shift + self.slope) * shift
        ascender, core, base, descender = (offset + rise for offset in self.offsets)
        return WordLines(self.slope + 2 * self.curvature * shift, self.curvature, origin, (ascender, core, base, descender))


@dataclass(frozen=True, eq=False)
class WordFit:
    """What expectation maximisation found.

    Attributes:
        lines: The lines of the best restart.
        noise: Standard deviation of turning points about their line, in the units of the heights.
        log_posteriors: Log-posterior up to a constant, in nats, of each restart before each iteration. It never falls.
        best: Index of the best restart.
    """

    lines: WordLines
    noise: float
    log_posteriors: Float[Tensor, "iterations restarts"]
    best: int


class _Parameters(NamedTuple):
    """Of all restarts: curvature, slope and four offsets; variance; shares of upper line, lower line, outliers by kind."""

    theta: Float[Tensor, "restarts 6"]
    variance: Float[Tensor, " restarts"]
    shares: Float[Tensor, "restarts 2 3"]


class _Points(NamedTuple):
    """Turning points in units of the stroke height: design and height of each, its kind (0 maximum, 1 minimum)."""

    design: Float[Tensor, "points 2 6"]
    heights: Float[Tensor, " points"]
    kinds: Int[Tensor, " points"]
    log_uniform: float


def fit_word_lines(maxima: Float[Tensor, "maxima 2"], minima: Float[Tensor, "minima 2"], iterations: int = 1000) -> WordFit:
    """Fit the four lines from 21 starts, all in one batch; nothing is drawn at random.

    The starts are the slope and curvature that least squares finds, up to three standard errors to either side: a single start
    ends now and then with a line on the wrong points.

    Args:
        maxima: x and height of the highest points of the pen's strokes, at least two.
        minima: x and height of the lowest points, at least two.
        iterations: Most iterations; it ends sooner when no restart gains 1e-10 nats.

    Raises:
        InvalidData: There are too few points, they are not finite, stand above each other or maxima are below the minima.
        InvalidOption: No iterations.
    """
    if iterations < 1:
        raise InvalidOption(f"got {iterations} iterations; expected at least 1")
    if len(maxima) < 2 or len(minima) < 2 or len(maxima) + len(minima) < 5:
        raise InvalidData(f"got {len(maxima)} maxima and {len(minima)} minima; expected 2 of each and 5 in all; write more")
    origin, middle, unit = _frame(maxima.double(), minima.double())
    points = _points(torch.cat([maxima, minima]).double(), len(maxima), origin, middle, unit)
    parameters, trace = _start(points), []
    for _ in range(iterations):
        shares, log_posterior = _expect(parameters, points)
        trace.append(log_posterior)
        if len(trace) > 1 and (trace[-1] - trace[-2]).max() < 1e-10:
            break
        parameters = _maximise(parameters, shares, points)
    best = int(trace[-1].argmax())
    curvature, slope, *offsets = parameters.theta[best].tolist()
    ascender, core, base, descender = (middle + unit * offset for offset in offsets)
    lines = WordLines(slope, curvature / unit, origin, (ascender, core, base, descender))
    return WordFit(lines, unit * math.sqrt(parameters.variance[best].item()), torch.stack(trace), best)


def _frame(maxima: Tensor, minima: Tensor) -> tuple[float, float, float]:
    """Origin, middle height, and the height of a short stroke: a fifth of the steps to the minimum nearest in x are lower.

    Neighbours hardly differ in what slope and curvature add, so that steps are strokes. Few are outliers, and even where every
    other maximum is an ascender and every other minimum a descender, a quarter is of core height.
    """
    both = torch.cat([maxima, minima])
    if not both.isfinite().all():
        raise InvalidData("got turning points that are not finite; expected finite positions; drop them")
    low, high = both[:, 0].aminmax()
    nearest = (maxima[:, :1] - minima[:, 0]).abs().argmin(1)
    unit = (maxima[:, 1] - minima[nearest, 1]).quantile(0.2).item()
    if not unit > 0 or not low < high:
        raise InvalidData(
            f"got strokes of height {unit:g} over a length {high - low:g}; expected both above 0; y must grow upwards"
        )
    return ((low + high) / 2).item(), both[:, 1].median().item(), unit


def _points(both: Tensor, count: int, origin: float, middle: float, unit: float) -> _Points:
    """Design of both lines of each point; outliers are uniform over the height that the word has about its parabola."""
    u, heights = (both[:, 0] - origin) / unit, (both[:, 1] - middle) / unit
    kinds = (torch.arange(len(both)) >= count).long()
    choice = torch.eye(4, dtype=torch.float64).reshape(2, 2, 4)[kinds]  # maxima: ascender, core; minima: base, descender
    bend = torch.stack([u**2, u], dim=1)[:, None].expand(-1, 2, -1)
    points = _Points(torch.cat([bend, choice], dim=2), heights, kinds, 0.0)
    low, high = (heights - points.design[:, 0, :2] @ _least_squares(points)[0]).aminmax()
    return points._replace(log_uniform=-math.log((high - low).item()))


def _least_squares(points: _Points) -> tuple[Float[Tensor, " 2"], Float[Tensor, " 2"]]:
    """Curvature and slope of a parabola with one height for maxima and one for minima, and their standard errors."""
    design = torch.cat([points.design[:, 0, :2], torch.eye(2, dtype=torch.float64)[points.kinds]], dim=1)
    inverse = torch.linalg.pinv(design.T @ design)
    solution = inverse @ (design.T @ points.heights)
    variance = (points.heights - design @ solution).square().sum() / max(len(design) - 4, 1)
    return solution[:2], (variance * inverse.diagonal()[:2].clamp(min=0)).sqrt()


def _start(points: _Points) -> _Parameters:
    bend, kinds = points.design[:, 0, :2], points.kinds
    solution, error = _least_squares(points)
    away = torch.cartesian_prod(torch.tensor(_CURVATURES), torch.tensor(_SLOPES)).double()
    bends = solution + away * error
    levelled = points.heights - bends @ bend.T
    upper, lower = (levelled[:, kinds == k].median(dim=1).values for k in (0, 1))
    theta = torch.cat([bends, torch.stack([upper + _GAP, upper, lower, lower - _GAP], dim=1)], dim=1)
    shares = torch.tensor([0.45, 0.45, 0.1], dtype=torch.float64).expand(RESTARTS, 2, 3)
    return _Parameters(theta, torch.full((RESTARTS,), 0.1, dtype=torch.float64), shares)


def _expect(parameters: _Parameters, points: _Points) -> tuple[Float[Tensor, "restarts points 3"], Float[Tensor, " restarts"]]:
    """Share of each component in each point, and the log-posterior."""
    theta, variance, shares = parameters
    residuals = points.heights[:, None] - torch.einsum("nki,ri->rnk", points.design, theta)
    spread = variance[:, None, None]
    normal = -0.5 * (residuals.square() / spread + (2 * math.pi * spread).log())
    uniform = torch.full_like(normal[..., :1], points.log_uniform)
    joint = torch.cat([normal, uniform], dim=2) + shares.log()[:, points.kinds]
    evidence = joint.logsumexp(dim=2)
    precision, mean = _prior()
    away = theta - mean
    log_prior = -0.5 * torch.einsum("ri,ij,rj->r", away, precision, away) + (shares.log() * _pseudo_counts()).sum((1, 2))
    log_prior = log_prior - 0.5 * _NOISE_WEIGHT * (variance.log() + _NOISE**2 / variance)
    return (joint - evidence[..., None]).exp(), evidence.sum(1) + log_prior


def _maximise(parameters: _Parameters, belongs: Tensor, points: _Points) -> _Parameters:
    """Lines given the variance, then the variance given the lines: each raises the expected log-posterior."""
    on_line = belongs[..., :2].flatten(1)
    rows, heights = points.design.flatten(0, 1), points.heights.repeat_interleave(2)
    outer = (rows[:, :, None] * rows[:, None, :]).flatten(1)
    precision, mean = _prior()
    spread = parameters.variance[:, None]
    system = (on_line @ outer / spread).unflatten(1, (6, 6)) + precision
    theta = torch.linalg.solve(system, on_line * heights @ rows / spread + precision @ mean)
    squares = (on_line * (heights - theta @ rows.T).square()).sum(1)
    variance = (squares + _NOISE_WEIGHT * _NOISE**2) / (on_line.sum(1) + _NOISE_WEIGHT)
    counts = torch.stack([belongs[:, points.kinds == k].sum(1) for k in (0, 1)], dim=1) + _pseudo_counts()
    return _Parameters(theta, variance, counts / counts.sum(2, keepdim=True))


def _prior() -> tuple[Float[Tensor, "6 6"], Float[Tensor, " 6"]]:
    """Precision and mean of curvature, slope and offsets: the height of all lines together is free."""
    rows = torch.zeros(5, 6, dtype=torch.float64)
    rows[0, 0], rows[1, 1] = 1 / _CURVATURE, 1 / _SLOPE
    for k in range(3):
        rows[2 + k, 2 + k], rows[2 + k, 3 + k] = 1 / _GAP_DEVIATION, -1 / _GAP_DEVIATION
    return rows.T @ rows, torch.tensor([0, 0, 3, 2, 1, 0], dtype=torch.float64) * _GAP


def _pseudo_counts() -> Float[Tensor, " 3"]:
    return torch.tensor([_LINE_COUNT, _LINE_COUNT, _OUTLIER_COUNT], dtype=torch.float64)
