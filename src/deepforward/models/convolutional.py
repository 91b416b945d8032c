"""Convolutional networks for small images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from deepforward.layers.shapes import expect_image, expect_inputs


class LeNet5(nn.Sequential):
    """LeNet-5 as it is built today: two convolutions with pooling, then layers of 120, 84 and `num_outputs` units.

    It differs from LeCun et al. 1998 in this: ReLU instead of scaled tanh, batch normalisation after the convolutions, maximum
    pooling without coefficients instead of trainable subsampling, every map connected to every map (no table of C3), twice as
    many maps, zero padding in both convolutions so that small images fit, an affine output instead of radial basis functions.

    Args:
        input_shape: (channels, height, width), at least 4x4.
        num_outputs: Number of outputs.
        channels: Maps of the two convolutions; (6, 16) in 1998.

    Raises:
        ShapeError: The examples are no images, or inputs of another shape come later.

    Source:
        LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition.
    """

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, *, channels: tuple[int, int] = (16, 32)) -> None:
        in_channels, height, width = expect_image("lenet5", input_shape, smallest=4)
        features = channels[1] * (height // 4) * (width // 4)
        super().__init__(
            OrderedDict(
                conv1=_convolution(in_channels, channels[0]),
                conv2=_convolution(channels[0], channels[1]),
                flatten=nn.Flatten(),
                hidden3=nn.Sequential(OrderedDict(affine=nn.Linear(features, 120), activation=nn.ReLU())),
                hidden4=nn.Sequential(OrderedDict(affine=nn.Linear(120, 84), activation=nn.ReLU())),
                output=nn.Linear(84, num_outputs),
            )
        )
        self.input_shape = tuple(input_shape)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """Logits."""
        expect_inputs("conv1.conv", inputs, self.input_shape)
        for layer in self:
            inputs = layer(inputs)
        return inputs


class ConvNet(nn.Sequential):
    """Pairs of 3x3 convolutions, the first of each pair followed by pooling, then a linear layer: for speed and accuracy.

    Pooling comes before batch normalisation and ReLU, which leaves these a quarter of the work. The last maps are pooled over
    the whole image.

    Args:
        input_shape: (channels, height, width), at least 2 to the power of the number of widths.
        num_outputs: Number of outputs.
        widths: Maps of each pair; each halves the size.

    Raises:
        ShapeError: The examples are no images of that size, or inputs of another shape come later.

    Source:
        Simonyan and Zisserman 2015, Very deep convolutional networks for large-scale image recognition (pairs of 3x3);
        Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU (the order of pooling and normalisation).
    """

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, *, widths: Sequence[int] = (32, 64, 128)) -> None:
        in_channels, _, _ = expect_image("convnet", input_shape, smallest=2 ** len(widths))
        blocks = OrderedDict[str, nn.Module]()
        for number, width in enumerate(widths, start=1):
            blocks[f"block{number}"] = nn.Sequential(
                OrderedDict(
                    conv1=nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
                    pool=nn.MaxPool2d(2),
                    norm1=nn.BatchNorm2d(width),
                    activation1=nn.ReLU(),
                    conv2=nn.Conv2d(width, width, 3, padding=1, bias=False),
                    norm2=nn.BatchNorm2d(width),
                    activation2=nn.ReLU(),
                )
            )
            in_channels = width
        blocks |= {"pool": nn.AdaptiveMaxPool2d(1), "flatten": nn.Flatten(), "output": nn.Linear(in_channels, num_outputs)}
        super().__init__(blocks)
        self.input_shape = tuple(input_shape)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """Logits."""
        expect_inputs("block1.conv1", inputs, self.input_shape)
        for layer in self:
            inputs = layer(inputs)
        return inputs


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 5, padding=2, bias=False),
            norm=nn.BatchNorm2d(out_channels),
            activation=nn.ReLU(),
            pool=nn.MaxPool2d(2),
        )
    )
