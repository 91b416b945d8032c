"""Max pooling that remembers where each maximum was, and its way back."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def pool(
    maps: Float[Tensor, "batch map rows columns"], side: int, across: int = 1
) -> tuple[Float[Tensor, "batch group pooled_rows pooled_columns"], Int[Tensor, "batch group pooled_rows pooled_columns"]]:
    """Of each block of `across` maps, `side` rows and `side` columns the value of largest magnitude, with its sign.

    Blocks at the border that are not whole are filled up with zeros.

    Args:
        maps: z.
        side: Height and width of a block.
        across: Neighbouring maps of a block (3D pooling where above 1).

    Returns:
        The values, and the place of each within its block (the switches).

    Source:
        Zeiler, Taylor, Fergus 2011, Adaptive deconvolutional networks for mid and high level feature learning, ICCV.
    """
    blocks = _blocks(maps, side, across)
    switches = blocks.abs().argmax(-1, keepdim=True)
    return blocks.gather(-1, switches)[..., 0], switches[..., 0]


def unpool(
    pooled: Float[Tensor, "batch group pooled_rows pooled_columns"],
    switches: Int[Tensor, "batch group pooled_rows pooled_columns"],
    shape: tuple[int, int, int],
    side: int,
    across: int = 1,
) -> Float[Tensor, "batch map rows columns"]:
    """Each value back at the place that its switch tells, zeros elsewhere; with fixed switches the adjoint of `pool`.

    Args:
        pooled: Values.
        switches: From `pool`.
        shape: Maps, rows and columns before pooling.
        side: Height and width of a block.
        across: Neighbouring maps of a block.
    """
    batch, groups, rows, columns = pooled.shape
    flat = pooled.new_zeros(*pooled.shape, across * side * side).scatter(-1, switches[..., None], pooled[..., None])
    spread = flat.reshape(batch, groups, rows, columns, across, side, side).permute(0, 1, 4, 2, 5, 3, 6)
    return spread.reshape(batch, groups * across, rows * side, columns * side)[:, : shape[0], : shape[1], : shape[2]]


def pooled_shape(shape: tuple[int, int, int], side: int, across: int = 1) -> tuple[int, int, int]:
    """Groups, rows and columns after pooling maps of this shape."""
    return -(-shape[0] // across), -(-shape[1] // side), -(-shape[2] // side)


def _blocks(maps: Tensor, side: int, across: int) -> Tensor:
    """(batch, groups, rows, columns, numbers of a block)."""
    count, height, width = maps.shape[1:]
    groups, rows, columns = pooled_shape((count, height, width), side, across)
    whole = F.pad(maps, (0, columns * side - width, 0, rows * side - height, 0, groups * across - count))
    parts = whole.reshape(len(maps), groups, across, rows, side, columns, side)
    return parts.permute(0, 1, 3, 5, 2, 4, 6).flatten(4)
