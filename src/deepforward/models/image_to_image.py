"""Convolutional networks that give an image for an image: of any size, once built."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption, ShapeError
from deepforward.layers.shapes import expect_image


class FullyConvolutional(nn.Module):
    """3x3 convolutions that keep the size, batch normalisation and ReLU between them: outputs for every pixel.

    With dilations d_i a pixel sees 1 + 2 sum(d_i) pixels a side (the first and last convolution are not dilated).

    Args:
        input_shape: (channels, height, width); later images may have any height and width.
        num_outputs: Outputs a pixel: classes, or channels of an image.
        depth: Convolutions, at least 2.
        width: Maps of each.
        dilations: Of the inner convolutions, repeated as often as they go.

    Raises:
        InvalidOption: `depth` is below 2, `width` below 1, or a dilation is.
        ShapeError: The examples are no images, or inputs have another number of channels.

    Source:
        Long, Shelhamer, Darrell 2015, Fully convolutional networks for semantic segmentation, CVPR; with dilations
        Yu and Koltun 2016, Multi-scale context aggregation by dilated convolutions, ICLR.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        depth: int = 8,
        width: int = 32,
        dilations: Sequence[int] = (1,),
    ) -> None:
        super().__init__()
        if depth < 2 or width < 1 or not dilations or min(dilations) < 1:
            got = f"depth={depth}, width={width} and dilations={tuple(dilations)}"
            raise InvalidOption(f"fully convolutional network got {got}; expected a depth of at least 2, the others at least 1")
        self.channels = expect_image("fully convolutional", input_shape, smallest=1)[0]
        self.layers = nn.Sequential(OrderedDict(_layers(self.channels, num_outputs, depth, width, dilations)))

    def forward(self, inputs: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch output height width"]:
        """Logits, or values, of every pixel."""
        if inputs.ndim != 4 or inputs.shape[1] != self.channels:
            raise ShapeError(
                f"layer 'layers.conv1' got inputs of shape {tuple(inputs.shape)}, expected (batch, {self.channels}, height, "
                "width); build the model with the data's shape"
            )
        return self.layers(inputs)


class DnCNN(FullyConvolutional):
    """A denoiser: it predicts the noise and subtracts it, y = x - F(x), F being the fully convolutional network.

    Input and output have the same unit, so that inputs must not be scaled. Zhang et al. take 17 layers of 64 maps.

    Args:
        input_shape: (channels, height, width); later images may have any height and width.
        depth: Convolutions.
        width: Maps of each.

    Raises:
        InvalidOption, ShapeError: As `FullyConvolutional`.

    Source: Zhang, Zuo, Chen, Meng, Zhang 2017, Beyond a Gaussian denoiser: residual learning of deep CNN, IEEE TIP 26.
    """

    def __init__(self, input_shape: tuple[int, ...], *, depth: int = 8, width: int = 32) -> None:
        super().__init__(input_shape, input_shape[0] if input_shape else 0, depth=depth, width=width)

    def forward(self, inputs: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        """The images without noise."""
        return inputs - super().forward(inputs)


#: The fully convolutional network seeing 1 + 2 (1 + 1 + 2 + 4 + 8 + 4 + 2 + 1) = 47 pixels a side instead of 17.
segmenter = partial(FullyConvolutional, dilations=(1, 2, 4, 8, 4, 2))


def _layers(
    in_channels: int, num_outputs: int, depth: int, width: int, dilations: Sequence[int]
) -> Iterator[tuple[str, nn.Module]]:
    yield "conv1", nn.Conv2d(in_channels, width, 3, padding=1)
    yield "relu1", nn.ReLU()
    for number in range(2, depth):
        dilation = dilations[(number - 2) % len(dilations)]
        yield f"conv{number}", nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        yield f"norm{number}", nn.BatchNorm2d(width)
        yield f"relu{number}", nn.ReLU()
    yield f"conv{depth}", nn.Conv2d(width, num_outputs, 3, padding=1)
