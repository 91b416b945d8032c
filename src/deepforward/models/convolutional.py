"""Convolutional networks for small images."""

from __future__ import annotations

from collections import OrderedDict

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


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 5, padding=2, bias=False),
            norm=nn.BatchNorm2d(out_channels),
            activation=nn.ReLU(),
            pool=nn.MaxPool2d(2),
        )
    )
