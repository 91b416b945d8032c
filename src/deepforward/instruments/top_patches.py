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
        """What the units at these places see of the images (`ReceptiveField.cut`).

        Args:
            images: The examples that were given, or pictures of them.
            field: Receptive field of the layer.
            channels: Which channels.
        """
        cuts = [
            field.cut(images[example], *place)
            for channel in channels
            for example, place in zip(self.examples[channel].tolist(), self.places[channel].tolist(), strict=True)
        ]
        return torch.stack(cuts).unflatten(0, (len(channels), -1))


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
