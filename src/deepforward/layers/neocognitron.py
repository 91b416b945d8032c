"""The cells of the neocognitron: S-cells, which learn features without a teacher, and C-cells, which forgive their places."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

#: Size of the unlearnt excitatory weights relative to c: enough to choose a plane by, too little to be seen once it has learnt.
_FAINT = 1e-4
#: Cells from the middle of a column to that of the next. With one about every cell, planes learn one feature at places side by
#: side, and none is left for the patterns that come last.
_BETWEEN_COLUMNS = 2


def falling(height: int, width: int, decay: float) -> Float[Tensor, "height width"]:
    """decay^|v| over a window, |v| being the distance to its centre in cells."""
    rows = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    return (decay ** torch.hypot(rows[:, None], columns[None])).to(torch.get_default_dtype())


class Seeds(NamedTuple):
    """Cells that learn from one pattern, one a plane at most: plane, row and column of each."""

    planes: Tensor
    rows: Tensor
    columns: Tensor


class SLayer(nn.Module):
    """Planes of S-cells: all cells of a plane share their weights, and fire where their feature is.

    With e = sum_kv a(k, v) u(k, n + v), v(n) = sqrt(sum_kv c(v) u(k, n + v)^2) and h = 2 r / (1 + r) b v(n), the response is

        u_S(n) = r relu((1 + e) / (1 + h) - 1) = r relu(e - h) / (1 + h),

    the right-hand form being free of cancellation. A cell that learnt a pattern p alone (`learn`) has a proportional to c p and
    b to half the norm of p, so that it fires exactly where the cosine of u and p, in the inner product sum c u p, exceeds
    r / (1 + r): 0.8 for r = 4, 0.6 for r = 1.5, whatever the contrast.

    Weights are buffers: they learn by the rule of the paper, not by a gradient. c falls with the distance and sums to one over
    the window and the planes below. Before learning b is 0 and a is faint, with an orientation that turns from plane to plane
    and, above the first stage, a preference among the planes below.

    Args:
        in_planes: Planes of C-cells below, or 1 for the image.
        planes: Planes of S-cells.
        kernel: Height and width of what a cell sees, odd, in cells.
        padding: Cells of silence around the input.
        selectivity: The r of the formula, above 0.
        reinforcement: The q of the learning rule, above 0.
        column: Height and width of the columns of cells that compete, odd, in cells.
        decay: Factor of c for a distance of one cell.

    Source:
        Fukushima 1980, Neocognitron, Biological Cybernetics 36, equations 1 to 4. The lecture lacks the factor r, and 2 r in h
        (erratum E12).
    """

    a: Tensor
    b: Tensor
    c: Tensor

    def __init__(
        self,
        in_planes: int,
        planes: int,
        *,
        kernel: int = 5,
        padding: int = 0,
        selectivity: float = 4.0,
        reinforcement: float = 1.0,
        column: int = 5,
        decay: float = 0.7,
    ) -> None:
        super().__init__()
        self.padding, self.column = padding, column
        self.selectivity, self.reinforcement = selectivity, reinforcement
        c = falling(kernel, kernel, decay)
        self.register_buffer("c", c / (in_planes * c.sum()))
        self.register_buffer("a", _FAINT * self.c * _preferences(in_planes, planes, kernel))
        self.register_buffer("b", torch.zeros(planes))

    def inhibition(self, inputs: Float[Tensor, "batch plane height width"]) -> Float[Tensor, "batch 1 rows columns"]:
        """v(n), the norm of what a cell sees, which every plane is inhibited by."""
        power = F.conv2d(inputs.square().sum(1, keepdim=True), self.c[None, None], padding=self.padding)
        return power.clamp(min=torch.finfo(power.dtype).tiny).sqrt()  # sqrt has no gradient at 0, where nothing is seen

    def forward(self, inputs: Float[Tensor, "batch plane height width"]) -> Float[Tensor, "batch out_plane rows columns"]:
        """Responses u_S to non-negative inputs."""
        r = self.selectivity
        excitation = F.conv2d(inputs, self.a, padding=self.padding)
        inhibition = (2 * r / (1 + r)) * self.b[:, None, None] * self.inhibition(inputs)
        return r * (excitation - inhibition).relu() / (1 + inhibition)

    @torch.no_grad()
    def learn(
        self, inputs: Float[Tensor, "1 plane height width"], responses: Float[Tensor, "1 out_plane rows columns"]
    ) -> Seeds:
        """One pattern: where a cell is the most active one of a column, its plane learns what it sees.

        Delta a(k, v) = q c(v) u(k, n + v) and Delta b = (q / 2) v(n), n being the place of the plane's representative.

        Args:
            inputs: What the layer saw.
            responses: What it gave.

        Returns:
            The representatives.
        """
        seeds = representatives(responses[0], self.column)
        padded = F.pad(inputs[0], (self.padding,) * 4)
        size = self.c.shape[0]
        seen = padded.unfold(1, size, 1).unfold(2, size, 1)[:, seeds.rows, seeds.columns].transpose(0, 1)
        self.a[seeds.planes] += self.reinforcement * self.c * seen
        self.b[seeds.planes] += self.reinforcement / 2 * self.inhibition(inputs)[0, 0, seeds.rows, seeds.columns]
        return seeds

    def extra_repr(self) -> str:
        """Planes and what a cell sees."""
        planes, below, size, _ = self.a.shape
        return f"{below}, {planes}, kernel={size}, padding={self.padding}, selectivity={self.selectivity}"


class CLayer(nn.Module):
    """Planes of C-cells, one for each plane of S-cells: each fires wherever near its place the feature is.

    With s = sum_v d(v) u_S(k, n + v) and v_S(n) the mean of s over the planes,

        u_C(n) = psi((1 + s) / (1 + v_S(n)) - 1) = psi((s - v_S) / (1 + v_S)),   psi(x) = relu(x) / (alpha + relu(x)).

    Args:
        window: Height and width of what a cell sees, in cells.
        stride: Cells of the layer below from one cell to the next.
        padding: Cells of silence left, right, above and below.
        saturation: The alpha of psi, above 0: the x at which half the highest response is reached.
        decay: Factor of d for a distance of one cell.

    Source:
        Fukushima 1980, equations 5 to 7.
    """

    d: Tensor

    def __init__(
        self,
        window: tuple[int, int],
        *,
        stride: int = 1,
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        saturation: float = 0.5,
        decay: float = 0.9,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.saturation = stride, padding, saturation
        self.register_buffer("d", falling(*window, decay))

    def forward(self, inputs: Float[Tensor, "batch plane height width"]) -> Float[Tensor, "batch plane rows columns"]:
        """Responses u_C in [0, 1)."""
        planes = inputs.shape[1]
        weights = self.d.expand(planes, 1, *self.d.shape)
        sums = F.conv2d(F.pad(inputs, self.padding), weights, stride=self.stride, groups=planes)
        mean = sums.mean(1, keepdim=True)
        excess = (sums - mean).relu() / (1 + mean)
        return excess / (self.saturation + excess)

    def extra_repr(self) -> str:
        """What a cell sees."""
        return f"window={tuple(self.d.shape)}, stride={self.stride}, padding={self.padding}, saturation={self.saturation}"


def representatives(responses: Float[Tensor, "plane rows columns"], column: int) -> Seeds:
    """The cells that learn: the most active one of each column, and of those in one plane the most active one.

    A column is a window of places, through all planes; there is one about every other place, so that columns overlap. A silent
    cell is never chosen, and a column may go without.

    Args:
        responses: Of S-cells to one pattern.
        column: Height and width of a column, odd, in cells.
    """
    planes, rows, columns = responses.shape
    best, plane = responses.max(0)
    highest, place = F.max_pool2d(best[None, None], column, _BETWEEN_COLUMNS, column // 2, return_indices=True)
    place = place[highest > 0].unique()
    strength = responses.new_zeros(planes, rows * columns)
    strength[plane.flatten()[place], place] = best.flatten()[place]
    value, where = strength.max(1)
    chosen = value.nonzero()[:, 0]
    return Seeds(chosen, where[chosen] // columns, where[chosen] % columns)


def _preferences(in_planes: int, planes: int, kernel: int) -> Float[Tensor, "planes in_planes kernel kernel"]:
    """Factors in [0, 1] of the faint weights: an orientation, and a place among the planes below, that follow the plane."""
    offsets = torch.arange(kernel, dtype=torch.get_default_dtype()) - (kernel - 1) / 2
    angle = torch.atan2(offsets[:, None].expand(-1, kernel), offsets.expand(kernel, -1))
    own = torch.arange(planes) / planes
    oriented = (1 + torch.cos(2 * (angle - math.pi * own[:, None, None]))) / 2
    below = torch.arange(in_planes) / in_planes
    near = (1 + torch.cos(2 * math.pi * (below - own[:, None]))) / 2 if in_planes > 1 else torch.ones(planes, 1)
    return near[:, :, None, None] * oriented[:, None]
