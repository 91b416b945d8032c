"""Pen trajectories of words whose lines are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deepforward.data.word_lines import WordLines
from deepforward.errors import InvalidOption

#: Points of the trajectory between two turning points.
_SAMPLES = 12


@dataclass(frozen=True, eq=False)
class SyntheticWord:
    """A word and what it was made of.

    Attributes:
        trajectory: x and height of the pen, heights growing upwards.
        lines: The lines it stands on.
        slant: Tangent of the angle by which upright strokes lean to the right.
        turns: x and height of the turning points, minima and maxima in turn, a minimum first and last.
        line: Index of the line of each turning point in `word_lines.LINES`.
        is_outlier: Whether a turning point was put anywhere instead.
    """

    trajectory: Float[Tensor, "points 2"]
    lines: WordLines
    slant: float
    turns: Float[Tensor, "turns 2"]
    line: Int[Tensor, " turns"]
    is_outlier: Bool[Tensor, " turns"]

    @property
    def maxima(self) -> Float[Tensor, "maxima 2"]:
        """The upper turning points."""
        return self.turns[1::2]

    @property
    def minima(self) -> Float[Tensor, "minima 2"]:
        """The lower turning points."""
        return self.turns[::2]


def synthetic_word(
    rng: torch.Generator,
    *,
    peaks: int = 60,
    noise: float = 0.05,
    outliers: float = 0.1,
    ascenders: float = 0.3,
    descenders: float = 0.25,
    slope: float = 0.3,
    curvature: float = 0.01,
    slant: float = 0.4,
    core_height: float = 1.0,
) -> SyntheticWord:
    """A word of up- and downstrokes; slope, curvature and slant are drawn evenly up to the given size in both signs.

    Strokes are halves of a cosine, on average 0.25 core heights wide. All lengths are in core heights.

    Args:
        rng: Draws everything.
        peaks: Number of maxima; there is one minimum more.
        noise: Standard deviation of the turning points' heights about their line.
        outliers: Probability that a turning point is anywhere between the outer lines, but above or below its neighbours.
        ascenders: Probability that a maximum belongs to the ascender line.
        descenders: Probability that a minimum belongs to the descender line.
        slope: Largest slope.
        curvature: Largest curvature.
        slant: Largest slant.
        core_height: Distance of core and base line, the unit of all else.

    Raises:
        InvalidOption: No peaks, a negative noise, a core height that is not positive, or a share outside [0, 1].
    """
    shares = (outliers, ascenders, descenders)
    if peaks < 1 or not noise >= 0 or not all(0 <= share <= 1 for share in shares) or not core_height > 0:
        got = f"peaks={peaks}, noise={noise:g}, shares {shares} and core_height={core_height:g}"
        raise InvalidOption(f"got {got}; expected a peak, noise >= 0, shares in [0, 1] and a positive height")

    def even(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=rng, dtype=torch.float64).item()

    base = even(-1, 1)
    levels = torch.tensor([base + 1 + even(0.7, 1.2), base + 1, base, base - even(0.6, 1.1)], dtype=torch.float64)
    turns = 2 * peaks + 1
    is_peak = torch.arange(turns) % 2 == 1
    chance = torch.rand(turns, generator=rng, dtype=torch.float64)
    line = torch.where(is_peak, (chance >= ascenders).long(), 2 + (chance < descenders).long())
    heights = levels[line] + noise * torch.randn(turns, generator=rng, dtype=torch.float64)
    is_outlier = torch.rand(turns, generator=rng) < outliers
    heights = _displaced(heights, levels, is_outlier, rng)
    x = (0.15 + 0.2 * torch.rand(turns + 1, generator=rng, dtype=torch.float64)).cumsum(0)
    lean, middle = even(-slant, slant), x.mean().item()
    bend = WordLines(even(-slope, slope), even(-curvature, curvature), middle, (0.0, 0.0, 0.0, 0.0))

    def placed(x: Tensor, y: Tensor) -> Tensor:
        leaning = x + lean * (y - base)
        return core_height * torch.stack([leaning, y + bend.rise(leaning)], dim=1)

    start = torch.tensor([base + 0.5], dtype=torch.float64)
    path = _strokes(torch.cat([x.new_zeros(1), x]), torch.cat([start, heights, start]))
    ascender, core, bottom, descender = (core_height * levels).tolist()
    lines = WordLines(bend.slope, bend.curvature / core_height, core_height * middle, (ascender, core, bottom, descender))
    return SyntheticWord(placed(*path), lines, lean, placed(x[:-1], heights), line, is_outlier)


def _displaced(heights: Tensor, levels: Tensor, is_outlier: Tensor, rng: torch.Generator) -> Tensor:
    """Outliers anywhere between the outer lines that leaves minima below and maxima above their neighbours."""
    heights, chance = heights.clone(), torch.rand(len(heights), generator=rng, dtype=torch.float64)
    top, core, _, bottom = levels.tolist()
    low = is_outlier.clone()
    low[1::2] = False
    heights[low] = bottom + (core - 0.3 - bottom) * chance[low]
    for i in range(1, len(heights), 2):
        floor = max(heights[i - 1].item(), heights[i + 1].item()) + 0.15
        if is_outlier[i]:
            heights[i] = floor + (top - floor) * chance[i]
        heights[i] = max(heights[i].item(), floor)
    return heights


def _strokes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The pen's way through turning points: even in x, a half cosine in height."""
    t = torch.arange(_SAMPLES, dtype=torch.float64) / _SAMPLES
    ease = (1 - (math.pi * t).cos()) / 2
    along, up = ((z[:-1, None] + z.diff()[:, None] * part).flatten() for z, part in ((x, t), (y, ease)))
    return torch.cat([along, x[-1:]]), torch.cat([up, y[-1:]])
