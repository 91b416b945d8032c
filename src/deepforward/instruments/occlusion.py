"""How much a class loses where the image is covered."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deepforward.errors import InvalidOption
from deepforward.instruments.layer_outputs import run
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.wrappers import unwrapped


def occlusion(
    model: nn.Module,
    inputs: Float[Tensor, "batch channel height width"],
    targets: Int[Tensor, " batch"],
    *,
    size: int,
    stride: int = 1,
    value: float = 0.0,
) -> Float[Tensor, "batch height width"]:
    """Fall of the target's output while a square covers a pixel, mean over the squares that cover it.

    Positive where the image speaks for the class, negative where it speaks against it.

    Args:
        model: Any module that takes images and gives a number for each class; run in evaluation mode and left as found.
        inputs: Scaled images.
        targets: A class of each.
        size: Side of the square in pixels.
        stride: Pixels from one place of the square to the next; the last one ends at the border.
        value: What covers, in scaled units: 0 is the mean of standardised data.

    Raises:
        InvalidOption: The square does not fit into the image, or the stride is not in 1 to `size`.
        InvalidModel: The model fails.

    Source:
        Zeiler and Fergus 2014, Visualizing and understanding convolutional networks, section 4.2.
    """
    height, width = inputs.shape[2:]
    if not (1 <= size <= min(height, width) and 1 <= stride <= size):
        raise InvalidOption(f"got a square of {size} in steps of {stride}; expected steps <= square <= {min(height, width)}")
    model = unwrapped(model)
    falls, covers = inputs.new_zeros(len(inputs), height, width), inputs.new_zeros(height, width)
    rows, columns = ([*range(0, side - size, stride), side - size] for side in (height, width))
    chosen = torch.arange(len(inputs)), targets
    with left_as_found(model), torch.no_grad():
        whole = run(model, inputs)[chosen]
        for top in rows:
            for left in columns:
                covered = inputs.clone()
                covered[:, :, top : top + size, left : left + size] = value
                place = slice(top, top + size), slice(left, left + size)
                falls[:, *place] += (whole - run(model, covered)[chosen])[:, None, None]
                covers[place] += 1
    return falls / covers
