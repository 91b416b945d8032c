"""Edges of an image, one map a direction, and a map of where there is none."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.errors import InvalidData

#: Directions of the gradient, half-open: light on the left of an edge is not light on its right.
DIRECTIONS = 8


class OrientedEdges(nn.Module):
    """Strength of the edges of each of 8 directions, and of no edge, which add up to 1 at every pixel.

    With g the gradient of the image smoothed by a Gaussian, c the `contrast` and u_d the unit vectors of angles d * 45 degrees:

        strength s = |g| / (|g| + c),    map d = s t_d / sum_e t_e,  t_d = max(0, cos(g, u_d))^4,    last map = 1 - s

    A map of its own for no edge lets what comes next learn absence. Nothing here depends on what else is in the batch or on
    the size of the image, to the bit: only sums, products, quotients and roots of single values are taken.

    Args:
        sigma: Standard deviation of the Gaussian, pixels.

    Source: Weng, Ahuja, Huang 1997, Learning recognition and segmentation using the Cresceptron, IJCV 25; edges there are zero
    crossings, which are all or nothing.
    """

    contrast: Tensor

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        self.sigma = sigma
        radius = round(2 * sigma)
        weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-radius, radius + 1)]
        self.window = [weight / sum(weights) for weight in weights]
        self.register_buffer("contrast", torch.zeros(()))

    @property
    def is_adapted(self) -> bool:
        """Whether the contrast has been set."""
        return bool(self.contrast > 0)

    def adapt(self, images: Float[Tensor, "batch 1 height width"]) -> None:
        """Set the contrast to the mean of |g| over `images`: an edge that strong has strength 1/2, whatever the units.

        Raises:
            InvalidData: The images have no edges.
        """
        across, down = self._gradient(images)
        contrast = (across * across + down * down).sqrt().mean()
        if not contrast > 0:
            raise InvalidData("got images each of one grey level; expected some with edges to set the contrast by")
        self.contrast.copy_(contrast)

    def forward(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 9 height width"]:
        """The maps, in [0, 1]; before `adapt` all edges are of full strength."""
        across, down = self._gradient(images)
        magnitude = (across * across + down * down).sqrt()
        tiny = torch.finfo(magnitude.dtype).tiny
        strength = magnitude / (magnitude + self.contrast).clamp(min=tiny)
        maps, total = [], torch.zeros_like(magnitude)
        for direction in range(DIRECTIONS):
            angle = direction * 2 * math.pi / DIRECTIONS
            cosine = (across * math.cos(angle) + down * math.sin(angle)).clamp(min=0) / magnitude.clamp(min=tiny)
            maps.append(cosine.square().square())
            total = total + maps[-1]
        return torch.cat([*(strength * tuned / total.clamp(min=tiny) for tuned in maps), 1 - strength], 1)

    def extra_repr(self) -> str:
        """Width of the Gaussian and the contrast."""
        return f"sigma={self.sigma}, contrast={self.contrast.item():.4g}"

    def _gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Half the differences of the two neighbours in each direction, the border's values repeated outside."""
        smooth = self._smooth(self._smooth(images.float()).mT).mT
        padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
        across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
        down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
        return across, down

    def _smooth(self, images: Tensor) -> Tensor:
        radius, width = len(self.window) // 2, images.shape[-1]
        padded = F.pad(images, (radius, radius, 0, 0), mode="replicate")
        total = torch.zeros_like(images)
        for offset, weight in enumerate(self.window):
            total = total + padded[..., offset : offset + width] * weight
        return total
