"""What goes wrong when an image is taken: noise, drawn from an explicit generator."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.errors import InvalidOption


def gaussian_noise(images: Float[Tensor, "*shape"], sigma: float, rng: torch.Generator) -> Float[Tensor, "*shape"]:
    """Images in [0, 1] with independent normal noise on every pixel, cut off at 0 and 1 as a sensor does.

    Args:
        images: Values in [0, 1].
        sigma: Standard deviation before the cut, in the units of the images.
        rng: Draws the noise.

    Raises:
        InvalidOption: `sigma` is negative.
    """
    if sigma < 0:
        raise InvalidOption(f"gaussian noise got sigma={sigma:g}; expected a number of at least 0")
    return (images + sigma * torch.randn(images.shape, generator=rng)).clamp(0, 1)


def salt_and_pepper(images: Float[Tensor, "*shape"], amount: float, rng: torch.Generator) -> Float[Tensor, "*shape"]:
    """Images in [0, 1] of whose pixels a share is replaced, half of it by 1 (salt) and half by 0 (pepper).

    Args:
        images: Values in [0, 1].
        amount: Probability with which a pixel is replaced, in [0, 1].
        rng: Draws which, and by what.

    Raises:
        InvalidOption: `amount` is outside [0, 1].
    """
    if not 0 <= amount <= 1:
        raise InvalidOption(f"salt and pepper got amount={amount:g}; expected a number between 0 and 1")
    replaced = torch.rand(images.shape, generator=rng) < amount
    salt = torch.rand(images.shape, generator=rng) < 0.5
    return torch.where(replaced, salt.to(images.dtype), images)
