"""The places in examples that excite a channel most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deepforward.instruments.layer_outputs import outputs_of
from deepforward.instruments.receptive_field import ReceptiveField


@dataclass(frozen=True)
class TopPatches:
    """For each channel of a layer the examples that excite it most, each at its strongest place; strongest first.

    Attributes:
        layer: Name of the layer.
        values: What the channel answers.
        examples: Which example.
        places: Row and column in the maps; 0, 0 where the layer has no places.
    """

    layer: str
    values: Float[Tensor, "channels count"]
    examples: Int[Tensor, "channels count"]
    places: Int[Tensor, "channels count 2"]

    def crop(
        self, images: Float[Tensor, "examples channel height width"], field: ReceptiveField, channels: Sequence[int]
    ) -> Float[Tensor, "chosen count channel field_height field_width"]:
        """What the units at these places see of the images: boxes of one size, 0 where they reach beyond the border.

        Args:
            images: The examples that were given, or pictures of them.
            field: Receptive field of the layer.
            channels: Which channels.
        """
        height, width = (min(size, side) for size, side in zip(field.size, field.image, strict=True))
        patches = images.new_zeros(len(channels), self.values.shape[1], images.shape[1], height, width)
        for i, channel in enumerate(channels):
            for j, (row, column) in enumerate(self.places[channel].tolist()):
                top, bottom, left, right = field.box(row, column)
                down, across = _offset(field.rows[row], top, height), _offset(field.columns[column], left, width)
                seen = images[self.examples[channel, j], :, top : bottom + 1, left : right + 1][:, :height, :width]
                seen = seen[:, : height - down, : width - across]
                patches[i, j, :, down : down + seen.shape[1], across : across + seen.shape[2]] = seen
        return patches


def _offset(extent: tuple[int, int], first: int, size: int) -> int:
    """Where in its box what is seen begins: behind the padding, unless the box is as large as the image."""
    return first - extent[0] if extent[1] - extent[0] + 1 <= size else 0


def top_patches(model: nn.Module, inputs: Float[Tensor, "examples *shape"], layer: str, count: int = 9) -> TopPatches:
    """Find them, by one pass over the examples.

    Args:
        model: Any module that takes one tensor; run in evaluation mode and left as found.
        inputs: Scaled examples.
        layer: Name of a layer.
        count: Examples for each channel, at most all.

    Raises:
        UnknownName, InvalidModel: As `outputs_of`.

    Source:
        Zeiler and Fergus 2014, Visualizing and understanding convolutional networks; Girshick et al. 2014, section 3.1.
    """
    values, places = [], []
    for _, seen in outputs_of(model, inputs, [layer]):
        output = seen[layer]
        best, at = output.flatten(2).max(2) if output.dim() > 2 else (output, torch.zeros_like(output, dtype=torch.long))
        width = output.shape[3] if output.dim() == 4 else 1
        values.append(best.float().cpu())
        places.append(torch.stack([at // width, at % width], 2).cpu())
    strength, order = torch.cat(values).sort(dim=0, descending=True, stable=True)
    order = order[:count].T
    where = torch.cat(places)
    channel = torch.arange(order.shape[0])[:, None]
    return TopPatches(layer, strength[:count].T, order, where[order, channel])
