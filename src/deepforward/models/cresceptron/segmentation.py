"""Finding an object in an image by the Cresceptron, with its outline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from deepforward.errors import InvalidData
from deepforward.models.cresceptron.back_tracking import Ascent, back_track, outline

if TYPE_CHECKING:
    from deepforward.models.cresceptron.network import Cresceptron


class Segmentation(NamedTuple):
    """An object that was found in an image.

    Attributes:
        label: Its class.
        response: Response of its node, in [0, 1].
        node: Number of the node.
        window: Upper row, left column, height and width of where the node saw it, pixels.
        edges: Pixels of the edges that made the node respond.
        outline: Corners of their convex hull, row and column, in order around it.
        mask: Pixels inside.
    """

    label: int
    response: float
    node: int
    window: tuple[int, int, int, int]
    edges: Bool[Tensor, "height width"]
    outline: Int[Tensor, "corners 2"]
    mask: Bool[Tensor, "height width"]


def find(network: Cresceptron, image: Float[Tensor, "1 height width"], label: int | None) -> Segmentation:
    """What `Cresceptron.segment` returns.

    Raises:
        InvalidData: Nothing has been learnt, or nothing of that class.
    """
    wanted = torch.ones_like(network.labels, dtype=torch.bool) if label is None else network.labels == label
    if not wanted.any():
        sought = "anything" if label is None else f"class {label}"
        raise InvalidData(f"the Cresceptron has learnt nothing of {sought} yet; call learn(images, labels) first")
    (_, height, width), stride = network.input_shape, network.stride
    offsets = [
        (row, column)
        for row in range(min(stride, image.shape[1] - height + 1))
        for column in range(min(stride, image.shape[2] - width + 1))
    ]
    found = [_peak(network.responses(image[None, :, row:, column:])[0], wanted) for row, column in offsets]
    best = max(range(len(found)), key=lambda n: found[n][0])
    (response, node, row, column), (upper, left) = found[best], offsets[best]
    ascent = network.climb(image[None, :, upper:, left:])
    alone = Ascent([maps[0] for maps in ascent.entering], [maps[0] for maps in ascent.responding], ascent.blur)
    cell = torch.tensor([[node, row, column]], device=image.device)
    top, start = upper + row * stride, left + column * stride
    reached = F.pad(back_track(alone, network.stages, network.top, cell), (left, 0, upper, 0))
    edges = torch.zeros_like(reached)
    inside = (slice(top, top + height), slice(start, start + width))  # cells at the rim see a little of what lies around
    edges[inside] = reached[inside]
    corners, mask = outline(edges)
    return Segmentation(int(network.labels[node]), response, node, (top, start, height, width), edges, corners, mask)


def _peak(responses: Tensor, wanted: Tensor) -> tuple[float, int, int, int]:
    """Highest response (nodes, rows, columns) of the nodes that are wanted; its node, row and column."""
    masked = responses.where(wanted[:, None, None], -1.0)
    node, row, column = (int(index) for index in torch.unravel_index(masked.argmax(), masked.shape))
    return float(masked[node, row, column]), node, row, column
