"""A small network that gives a class to each pixel: strided encoder, dilated convolutions, dense upsampling."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.errors import InvalidOption, ShapeError
from deepforward.layers.dense_upsampling import DenseUpsampling
from deepforward.layers.dilation import check_rates, warn_of_gridding
from deepforward.layers.shapes import expect_image

_STRIDES = (1, 2, 4, 8)


class HybridDilatedNetwork(nn.Module):
    """Convolutions of 3 x 3 taps with stride 2, then dilated ones, then a dense upsampling to the size of the image.

    Each convolution is followed by batch normalisation and ReLU. Images whose sides are no multiples of `stride` are padded
    with zeros at the right and below, and the logits cropped.

    Args:
        input_shape: (channels, height, width), at least as large as the receptive field of the dilated convolutions,
            stride (1 + 2 sum rates).
        num_outputs: Number of classes.
        rates: Dilation of each convolution between encoder and head. Rates that leave holes are built with a warning: that is
            what the clinic's rule `gridding` and the claim `hybrid-dilated-convolution` look at.
        width: Maps of each layer.
        stride: By how much the encoder shrinks the image: 1 (there is none), 2, 4 or 8.

    Raises:
        ShapeError: The examples are no images or smaller than the receptive field.
        InvalidOption: No such stride, or rates below 1.

    Warns:
        GriddingWarning: The rates leave holes.

    Source:
        Wang, Chen, Yuan, Liu, Huang, Hou, Cottrell 2018, Understanding convolution for semantic segmentation. Theirs is a
        ResNet-101 with 8-fold dense upsampling; this has the same two parts on a plain encoder, for small images.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        rates: Sequence[int] = (1, 2, 3),
        width: int = 32,
        stride: int = 2,
    ) -> None:
        if stride not in _STRIDES:
            raise InvalidOption(f"hdc-duc got stride={stride}, expected one of {', '.join(map(str, _STRIDES))}; choose one")
        channels, height, width_of_image = expect_image("hdc-duc", input_shape, smallest=1)
        field = stride * check_rates(rates).field
        if min(height, width_of_image) < field:
            raise ShapeError(
                f"hdc-duc got images of {height}x{width_of_image} pixels, smaller than the receptive field of {field}x{field} "
                f"of rates {tuple(rates)} at stride {stride}; use smaller rates or stride, or larger images"
            )
        warn_of_gridding("hdc-duc", rates)
        super().__init__()
        halvings = _STRIDES.index(stride)
        maps = [channels, *[width] * (halvings + len(rates) - 1)]
        self.encoder = nn.Sequential(*(_convolution(given, width, stride=2) for given in maps[:halvings]))
        dilated = zip(maps[halvings:], rates, strict=True)
        self.dilated = nn.Sequential(*(_convolution(given, width, dilation=rate) for given, rate in dilated))
        self.head = DenseUpsampling(width, num_outputs, stride)

    def forward(self, inputs: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch classes height width"]:
        """Logits of each pixel."""
        height, width = inputs.shape[2:]
        padded = F.pad(inputs, (0, -width % self.head.factor, 0, -height % self.head.factor))
        return self.head(self.dilated(self.encoder(padded)))[..., :height, :width]


def _convolution(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, bias=False),
            norm=nn.BatchNorm2d(out_channels),
            activation=nn.ReLU(),
        )
    )
