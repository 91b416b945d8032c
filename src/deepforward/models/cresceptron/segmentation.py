"""What the Cresceptron recognises in an image, and its outline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from deepforward.models.cresceptron.back_tracking import Ascent, back_track, outline

if TYPE_CHECKING:
    from deepforward.models.cresceptron.network import Cresceptron


class Recognition(NamedTuple):
    """What the top of the network makes of each image, `batch` entries each.

    Attributes:
        labels: Class of the strongest node.
        responses: Its response, in [0, 1]; 1 only for what it was grown for.
        nodes: Its number.
        rows: Upper edge of where it saw the object, pixels.
        columns: Left edge of it.
    """

    labels: Int[Tensor, " batch"]
    responses: Float[Tensor, " batch"]
    nodes: Int[Tensor, " batch"]
    rows: Int[Tensor, " batch"]
    columns: Int[Tensor, " batch"]


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


def segment(network: Cresceptron, image: Float[Tensor, "1 height width"], seen: Recognition) -> Segmentation:
    """Trace what was recognised in an image back to its edges.

    Args:
        network: A network that has learnt something.
        image: The image.
        seen: What it recognised in it.
    """
    (_, height, width), stride = network.input_shape, network.stride
    node, top, start = int(seen.nodes), int(seen.rows), int(seen.columns)
    upper, left = top % stride, start % stride
    ascent = network.climb(image[None, :, upper:, left:])
    alone = Ascent([maps[0] for maps in ascent.entering], [maps[0] for maps in ascent.responding], ascent.blur)
    cell = torch.tensor([[node, top // stride, start // stride]], device=image.device)
    reached = F.pad(back_track(alone, network.stages, network.top, cell), (left, 0, upper, 0))
    edges = torch.zeros_like(reached)
    inside = (slice(top, top + height), slice(start, start + width))  # cells at the rim see a little of what lies around
    edges[inside] = reached[inside]
    corners, mask = outline(edges)
    window = (top, start, height, width)
    return Segmentation(int(seen.labels), float(seen.responses), node, window, edges, corners, mask)
