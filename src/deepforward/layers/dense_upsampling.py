"""Dense upsampling convolution: from a small grid of features to a score for each pixel, all of it learnt."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class DenseUpsampling(nn.Module):
    """A convolution to d^2 L channels whose channels are laid out as d x d pixels of L classes each (pixel shuffle).

    Pixel (d y + i, d x + j) of class c is channel c d^2 + i d + j at (y, x). Nothing is interpolated, and details finer than
    the grid of the features can be told.

    Args:
        in_channels: Channels of the features.
        classes: Classes L.
        factor: Upsampling d along each axis; the stride of what made the features.

    Source:
        Wang, Chen, Yuan, Liu, Huang, Hou, Cottrell 2018, Understanding convolution for semantic segmentation, section 3.1.
    """

    def __init__(self, in_channels: int, classes: int, factor: int) -> None:
        super().__init__()
        # One tap, so that the head touches no pixel that the rates below it leave out.
        self.conv = nn.Conv2d(in_channels, factor**2 * classes, 1)
        self.factor = factor

    def forward(self, features: Float[Tensor, "batch channel rows columns"]) -> Float[Tensor, "batch classes height width"]:
        """Logits of (factor * rows) x (factor * columns) pixels."""
        return F.pixel_shuffle(self.conv(features), self.factor)
