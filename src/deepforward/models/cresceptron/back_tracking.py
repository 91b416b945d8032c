"""From a node of the Cresceptron back down the paths that made it respond, to the edges of the object in the image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor
from torch.nn import functional as F

from deepforward.layers.growing_planes import GrowingPlanes
from deepforward.layers.oriented_edges import DIRECTIONS

#: Share of a template's value that the activity at a connection must reach for the path through it to count as active.
ACTIVE_SHARE = 0.5
#: Strength from which a pixel counts as one of an edge: the gradient is above the contrast.
EDGE_STRENGTH = 0.5

#: Cells of some map, a row each: plane, row, column.
Cells = Int[Tensor, "_ 3"]


class Ascent(NamedTuple):
    """All maps of one image on its way up.

    Attributes:
        entering: What enters each level before blurring, and then the top, (planes, height, width) each.
        responding: Activities of the planes of each level, before node reduction.
        blur: What a neighbour's activity counts.
    """

    entering: list[Float[Tensor, "planes height width"]]
    responding: list[Float[Tensor, "planes height width"]]
    blur: float


def back_track(ascent: Ascent, levels: list[GrowingPlanes], top: GrowingPlanes, cell: Cells) -> Bool[Tensor, "height width"]:
    """Pixels of edges that active paths lead to from a cell of the top.

    At each connection a path goes on if the activity there is at least half the template's; through blurring and node
    reduction it goes to the cell whose activity was the maximum.

    Args:
        ascent: The maps of the image.
        levels: Planes of each level.
        top: Nodes of the top.
        cell: Node, row and column, one row.
    """
    cells = connected(top, cell, _blurred(ascent, -1))
    for n in reversed(range(len(levels))):
        cells = strongest(unblurred(cells), ascent.entering[n + 1], ascent.blur)
        cells = strongest(unreduced(cells), ascent.responding[n])
        cells = connected(levels[n], cells, _blurred(ascent, n))
    plane, row, column = strongest(unblurred(cells), ascent.entering[0], ascent.blur).unbind(1)
    edges = ascent.entering[0]
    reached = torch.zeros(edges.shape[1:], dtype=torch.bool, device=edges.device)
    reached[row[plane < DIRECTIONS], column[plane < DIRECTIONS]] = True
    return reached & (1 - edges[DIRECTIONS] >= EDGE_STRENGTH)


def connected(planes: GrowingPlanes, cells: Cells, below: Float[Tensor, "planes height width"]) -> Cells:
    """Cells below that cells of `planes` are connected to and that are active enough, each once."""
    places = torch.tensor([[row, column] for _, row, column in planes.places()], device=cells.device)
    margin = torch.tensor([size // 2 if planes.padding else 0 for size in planes.window], device=cells.device)
    where = cells[:, None, 1:] + places - margin
    found = torch.cat([planes.channels[cells[:, 0]][..., None], where], 2)
    template = planes.templates[cells[:, 0]]
    size = torch.tensor(below.shape[1:], device=cells.device)
    exists = ((where >= 0) & (where < size)).all(2) & (template > 0)
    plane, row, column = torch.where(exists[..., None], found, 0).unbind(2)
    active = exists & (below[plane, row, column] >= ACTIVE_SHARE * template)
    return found[active].unique(dim=0)


def unblurred(cells: Cells) -> Int[Tensor, "_ candidates 3"]:
    """The cells that each blurred cell may come from: itself, first, and its neighbours."""
    offsets = [(0, 0)] + [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column]
    return cells[:, None] + F.pad(torch.tensor(offsets, device=cells.device), (1, 0))


def unreduced(cells: Cells) -> Int[Tensor, "_ candidates 3"]:
    """The four cells that each cell is the maximum of."""
    offsets = torch.tensor([(0, row, column) for row in (0, 1) for column in (0, 1)], device=cells.device)
    return cells[:, None] * torch.tensor([1, 2, 2], device=cells.device) + offsets


def strongest(
    candidates: Int[Tensor, "_ candidates 3"], activity: Float[Tensor, "planes height width"], blur: float = 1.0
) -> Cells:
    """The most active candidate of each row, each once; all but the first count `blur` times their activity."""
    plane, row, column = candidates.unbind(2)
    height, width = activity.shape[1:]
    exists = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    values = activity[plane, row.clamp(0, height - 1), column.clamp(0, width - 1)]
    values = torch.cat([values[:, :1], values[:, 1:] * blur], 1).where(exists, -1.0)
    best = values.argmax(1)
    return candidates[torch.arange(len(best), device=best.device), best].unique(dim=0)


def outline(pixels: Bool[Tensor, "height width"]) -> tuple[Int[Tensor, "corners 2"], Bool[Tensor, "height width"]]:
    """Convex hull of some pixels.

    Returns:
        Its corners, row and column, in order around it, and all pixels whose centres it holds. Fewer than three pixels, or
        pixels on one line, are their own hull.
    """
    points = pixels.nonzero().cpu()
    try:
        hull = ConvexHull(points.numpy())
    except (QhullError, ValueError):
        return points, pixels
    rows, columns = np.indices(tuple(pixels.shape))
    normals, offsets = hull.equations[:, :2], hull.equations[:, 2]
    # Qhull's corners are exact, its planes are rounded: half a thousandth of a pixel keeps the corners inside.
    inside = (normals @ np.stack([rows.ravel(), columns.ravel()]) + offsets[:, None] <= 5e-4).all(0)
    return points[torch.from_numpy(hull.vertices.astype(np.int64))], torch.from_numpy(inside).reshape(pixels.shape)


def _blurred(ascent: Ascent, level: int) -> Tensor:
    return blurred(ascent.entering[level], ascent.blur)


def blurred(activity: Float[Tensor, "*batch planes height width"], blur: float) -> Float[Tensor, "*batch planes height width"]:
    """max(a, blur * maximum of a over 3 x 3 cells)."""
    return torch.maximum(activity, blur * F.max_pool2d(activity, 3, 1, 1))
