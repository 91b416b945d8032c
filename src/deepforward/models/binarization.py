"""A convolutional encoder-decoder that tells ink from paper."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.errors import ShapeError
from deepforward.layers.shapes import expect_image

#: Pixels a side that one place of the innermost maps stands for.
_STRIDE = 4


class BinarizationNetwork(nn.Module):
    """Encoder: two stages of 3x3 convolutions, each halving the page; decoder: two transposed convolutions back to its size.

    It differs from Peng, Cao and Natarajan 2017 in this: two halvings instead of those of a large classifier, strides instead
    of pooling, batch normalisation, and, where `skip`, the maps of the first stage added to those of the decoder at the same
    size, which gives edges back that the second halving loses. A page of any size is extended by its edge to a multiple of 4
    and the logits are cut back.

    Args:
        input_shape: (channels, height, width) of a page; later ones may have another height and width.
        num_outputs: Number of classes, 2 for ink and paper.
        channels: Maps of the two stages.
        depth: Convolutions of the second stage after the one that halves.
        skip: Whether the decoder is given the maps of the first stage.

    Raises:
        ShapeError: The examples are no images, or later ones have another number of channels.

    Source: Peng, Cao, Natarajan 2017, Using convolutional encoder-decoder for document image binarization, ICDAR.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        channels: Sequence[int] = (32, 64),
        depth: int = 2,
        skip: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, _, _ = expect_image("binarization-network", input_shape, smallest=1)
        first, second = channels
        self.encoder1 = nn.Sequential(_stage(self.in_channels, first, stride=2), _stage(first, first))
        self.encoder2 = nn.Sequential(_stage(first, second, stride=2), *(_stage(second, second) for _ in range(depth)))
        self.decoder2 = nn.Sequential(
            OrderedDict(
                conv=nn.ConvTranspose2d(second, first, 4, stride=2, padding=1, bias=False),
                norm=nn.BatchNorm2d(first),
                activation=nn.ReLU(),
            )
        )
        self.decoder1 = nn.ConvTranspose2d(first, num_outputs, 4, stride=2, padding=1)
        self.skip = skip

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs height width"]:
        """A logit for each class and pixel."""
        if inputs.ndim != 4 or inputs.shape[1] != self.in_channels:
            got = tuple(inputs.shape)
            raise ShapeError(
                f"layer 'encoder1.0.conv' got inputs of shape {got}, expected (batch, {self.in_channels}, height, width); "
                "build the model with the data's shape"
            )
        height, width = inputs.shape[2:]
        padded = F.pad(inputs, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
        outer = self.encoder1(padded)
        maps = self.decoder2(self.encoder2(outer))
        return self.decoder1(maps + outer if self.skip else maps)[:, :, :height, :width]


def _stage(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            norm=nn.BatchNorm2d(out_channels),
            activation=nn.ReLU(),
        )
    )
