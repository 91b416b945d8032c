"""Which part of the image a unit of a layer sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidModel
from deepforward.instruments.gradient_support import Everywhere, everywhere
from deepforward.instruments.graph_reach import reach_along
from deepforward.instruments.layer_outputs import check_called, run, watching_layers
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.reach_rules import UnknownOperation
from deepforward.instruments.wrappers import unwrapped

#: First and last row (or column) of the image.
Extent = tuple[int, int]


@dataclass(frozen=True)
class ReceptiveField:
    """The pixels that the units of a layer are computed from, a box for each place.

    Attributes:
        layer: Name of the layer.
        rows: First and last row of the image that the units in each row of the layer's maps see; below 0 and beyond the last
            where they see padding. One entry for a layer without places.
        columns: The same of columns.
        image: Height and width of the image.
        is_measured: Whether the graph has operations whose places are not known, so that the fields were measured by where
            gradients arrive (`gradient_support`); they then end at the borders of the image.
    """

    layer: str
    rows: tuple[Extent, ...]
    columns: tuple[Extent, ...]
    image: tuple[int, int]
    is_measured: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the field of the unit that sees most, padding included."""
        height, width = (max(last - first + 1 for first, last in extents) for extents in (self.rows, self.columns))
        return height, width

    @property
    def stride(self) -> tuple[float, float]:
        """Pixels from the field of one unit to that of its neighbour, downwards and to the right; 0 where there is none."""
        down, right = ((e[-1][0] - e[0][0]) / max(len(e) - 1, 1) for e in (self.rows, self.columns))
        return down, right

    @property
    def start(self) -> tuple[int, int]:
        """Top row and leftmost column of the first unit's field; negative where it begins in the padding."""
        return self.rows[0][0], self.columns[0][0]

    @property
    def centre(self) -> tuple[int, int]:
        """Row and column of the unit in the middle of the maps."""
        return (len(self.rows) - 1) // 2, (len(self.columns) - 1) // 2

    @property
    def is_whole(self) -> bool:
        """Whether the unit in the middle sees all of the image."""
        return self.box(*self.centre) == (0, self.image[0] - 1, 0, self.image[1] - 1)

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """What the unit at a place sees of the image: first and last row, first and last column."""
        (top, bottom), (left, right) = self.rows[row], self.columns[column]
        height, width = self.image
        return max(top, 0), min(bottom, height - 1), max(left, 0), min(right, width - 1)

    def cut(
        self, image: Float[Tensor, "channel height width"], row: int, column: int
    ) -> Float[Tensor, "channel field_height field_width"]:
        """What the unit at a place sees of an image: boxes of one size for all places, 0 where they reach beyond the border."""
        height, width = (min(size, side) for size, side in zip(self.size, self.image, strict=True))
        top, bottom, left, right = self.box(row, column)
        down, across = _offset(self.rows[row], top, height), _offset(self.columns[column], left, width)
        seen = image[:, top : bottom + 1, left : right + 1][:, : height - down, : width - across]
        cut = image.new_zeros(image.shape[0], height, width)
        cut[:, down : down + seen.shape[1], across : across + seen.shape[2]] = seen
        return cut


def _offset(extent: Extent, first: int, size: int) -> int:
    """Where in its box what is seen begins: behind the padding, unless the box is as large as the image."""
    return first - extent[0] if extent[1] - extent[0] + 1 <= size else 0


def receptive_fields(
    model: nn.Module, inputs: Float[Tensor, "batch channel height width"], layers: Sequence[str]
) -> Mapping[str, ReceptiveField]:
    """The analytic receptive field of each layer, found by following the graph of one pass from the layer to the image.

    A layer of kernel k, dilation d, stride s and padding p takes the span [a, b] of its units to [a s - p, b s - p + d (k - 1)]
    of its input; what has several branches sees the union. Padding other than by a constant, and whatever else is not known,
    is measured instead.

    Args:
        model: Any module that takes images; run once in evaluation mode, left as found.
        inputs: Images that it accepts.
        layers: Names of modules (`name#call` from the second call on).

    Raises:
        UnknownName: There is no such layer.
        InvalidModel: The model fails, does not call a layer, or a layer does not depend on the images.

    Source:
        Araujo, Norris, Sim 2019, Computing receptive fields of convolutional neural networks, Distill.
    """
    model = unwrapped(model)
    found, unknown = {}, []
    with left_as_found(model), torch.enable_grad(), watching_layers(model, layers) as seen:
        start = inputs[:2].detach().clone().requires_grad_()
        run(model, start)
        check_called(seen, layers)
        for layer in layers:
            try:
                found[layer] = _field(layer, seen[layer], start)
            except UnknownOperation:
                unknown.append(layer)
    if unknown:
        found |= {layer: _measured(layer, places, inputs) for layer, places in everywhere(model, inputs, unknown).items()}
    return {layer: found[layer] for layer in layers}


def _field(layer: str, unit: Tensor, start: Tensor) -> ReceptiveField:
    has_places = unit.dim() == 4
    spans = [reach_along(unit, start, dim, dim if has_places else 1) for dim in (2, 3)]
    rows, columns = (_extents(span if has_places else np.array([[span[0].min()], [span[1].max()]])) for span in spans)
    return ReceptiveField(layer, rows, columns, (start.shape[2], start.shape[3]))


def _extents(span: np.ndarray) -> tuple[Extent, ...]:
    if not np.isfinite(span).all():
        raise UnknownOperation("a unit sees nothing")
    return tuple((int(first), int(last)) for first, last in span.T)


def _measured(layer: str, places: Everywhere, inputs: Tensor) -> ReceptiveField:
    if not (places.rows.any(1).all() and places.columns.any(1).all()):
        raise InvalidModel(f"'{layer}' has units that do not depend on the image; name a layer that images reach")
    rows, columns = (tuple(_ends(line) for line in lines) for lines in (places.rows, places.columns))
    return ReceptiveField(layer, rows, columns, (inputs.shape[2], inputs.shape[3]), is_measured=True)


def _ends(line: Tensor) -> Extent:
    touched = line.nonzero().flatten()
    return int(touched[0]), int(touched[-1])
