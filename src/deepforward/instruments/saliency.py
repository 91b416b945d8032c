"""To which pixels a class is sensitive."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deepforward.errors import InvalidModel, InvalidOption
from deepforward.instruments.layer_outputs import run
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.wrappers import unwrapped


def saliency(
    model: nn.Module,
    inputs: Float[Tensor, "batch channel height width"],
    targets: Int[Tensor, " batch"],
    rng: torch.Generator,
    *,
    samples: int = 1,
    noise: float = 0.0,
) -> Float[Tensor, "batch height width"]:
    """Size of the gradient of the target's output by each pixel, the largest over the channels of the image.

    Args:
        model: Any module that takes images and gives a number for each class; run in evaluation mode and left as found.
        inputs: Scaled images.
        targets: A class of each.
        rng: Draws the noise.
        samples: Noisy copies whose gradients are averaged before their size is taken.
        noise: Standard deviation of the noise, in scaled units.

    Raises:
        InvalidOption: No sample, or negative noise.
        InvalidModel: The model fails, or no gradient arrives at the image.

    Source:
        Simonyan, Vedaldi, Zisserman 2014, Deep inside convolutional networks, section 3; averaged: Smilkov et al. 2017,
        SmoothGrad.
    """
    if samples < 1 or noise < 0:
        raise InvalidOption(f"got samples={samples} and noise={noise:g}; expected at least one, and no negative noise")
    model, total = unwrapped(model), torch.zeros_like(inputs)
    with left_as_found(model), torch.enable_grad():
        for _ in range(samples):
            drawn = torch.randn(inputs.shape, generator=rng).to(inputs)
            x = (inputs.detach() + noise * drawn).requires_grad_()
            said = run(model, x)[torch.arange(len(x)), targets].sum()
            if not said.requires_grad:
                raise InvalidModel("the output does not depend on the image by a path that gradients take; take occlusion")
            total += torch.autograd.grad(said, x)[0]
    return (total / samples).abs().amax(1)
