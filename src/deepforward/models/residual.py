"""Residual networks for small images and their plain twins."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption
from deepforward.layers.residual import PadShortcut
from deepforward.layers.shapes import expect_image, expect_inputs

#: Maps of the three stages.
CHANNELS = (16, 32, 64)


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation: y = relu(norm(W2 relu(norm(W1 x))) [+ shortcut(x)]).

    Args:
        in_channels: Maps of the input.
        out_channels: Maps of the result.
        stride: Stride of the first convolution.
        residual: Whether the shortcut exists; without it the block belongs to the plain twin.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module | None = None
        if residual:
            changes = stride > 1 or in_channels != out_channels
            self.shortcut = PadShortcut(in_channels, out_channels, stride) if changes else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, inputs: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch map new_height new_width"]:
        """The block's maps."""
        branch = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(inputs)))))
        return self.relu2(branch if self.shortcut is None else branch + self.shortcut(inputs))


class ResidualNetwork(nn.Module):
    """ResNet of depth 6n + 2 for small images: a 3x3 stem, three stages of n blocks with 16, 32, 64 maps, mean, affine.

    Shortcuts are the identity, and option A (subsample, pad with zeros) where the size changes, so that the plain twin has the
    same parameters.

    Args:
        input_shape: (channels, height, width), at least 4x4.
        num_outputs: Number of outputs.
        depth: Layers with weights, 6n + 2.
        residual: False builds the plain twin.

    Raises:
        InvalidOption: `depth` is not 6n + 2.
        ShapeError: The examples are no images, or inputs of another shape come later.

    Source:
        He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition, section 4.2; initialisation He et al. 2015.
    """

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, *, depth: int = 20, residual: bool = True) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise InvalidOption(f"residual network got depth={depth}, expected 6n + 2; take 8, 14, 20, 32, 44, 56 or 110")
        channels, _, _ = expect_image(f"{'resnet' if residual else 'plain'}{depth}", input_shape, smallest=4)
        self.input_shape = tuple(input_shape)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(channels, CHANNELS[0], 3, padding=1, bias=False),
                norm=nn.BatchNorm2d(CHANNELS[0]),
                relu=nn.ReLU(),
            )
        )
        self.stage1 = _stage(CHANNELS[0], CHANNELS[0], blocks, stride=1, residual=residual)
        self.stage2 = _stage(CHANNELS[0], CHANNELS[1], blocks, stride=2, residual=residual)
        self.stage3 = _stage(CHANNELS[1], CHANNELS[2], blocks, stride=2, residual=residual)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.output = nn.Linear(CHANNELS[2], num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """Logits."""
        expect_inputs("stem.conv", inputs, self.input_shape)
        maps = self.stage3(self.stage2(self.stage1(self.stem(inputs))))
        return self.output(self.flatten(self.pool(maps)))


def _stage(in_channels: int, out_channels: int, blocks: int, *, stride: int, residual: bool) -> nn.Sequential:
    first = Block(in_channels, out_channels, stride, residual)
    return nn.Sequential(first, *(Block(out_channels, out_channels, 1, residual) for _ in range(blocks - 1)))


def _of_depth(depth: int, residual: bool) -> Callable[..., ResidualNetwork]:
    return partial(ResidualNetwork, depth=depth, residual=residual)


resnet20, resnet32, resnet44, resnet56, resnet110 = (_of_depth(depth, True) for depth in (20, 32, 44, 56, 110))
plain20, plain32, plain44, plain56, plain110 = (_of_depth(depth, False) for depth in (20, 32, 44, 56, 110))
