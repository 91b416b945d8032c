"""The network that read zip codes in 1989."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.errors import ShapeError
from deepforward.layers.shapes import expect_inputs

#: Input maps seen by each third of the maps of H2: eight of twelve, every map by two thirds. The paper leaves the choice open.
H2_SOURCES = (tuple(range(8)), tuple(range(4, 12)), (8, 9, 10, 11, 0, 1, 2, 3))


class SharedKernels(nn.Module):
    """Maps with 5x5 kernels shared by all places, step 2, and one bias for each unit.

    The border is padded with -1, the value of the background. Each group of output maps sees its own choice of input maps.

    Args:
        sources: For each group of output maps, the input maps it sees.
        out_maps: Number of output maps, shared out evenly over the groups.
        size: Height and width of the output maps, in units.
    """

    sources: Tensor

    def __init__(self, sources: Sequence[Sequence[int]], out_maps: int, size: int) -> None:
        super().__init__()
        self.groups, self.size = len(sources), size
        self.weight = nn.Parameter(_weights(out_maps, 25 * len(sources[0])))
        self.bias = nn.Parameter(torch.zeros(out_maps, size * size))
        self.register_buffer("sources", torch.tensor(sources).flatten(), persistent=False)

    def forward(self, inputs: Float[Tensor, "batch map height width"]) -> Float[Tensor, "batch out_map size size"]:
        """Weighted sums of the units, before squashing."""
        # One example at a time, a step costs dispatch: two products of small matrices take half the time of two convolutions.
        padded = F.pad(inputs, (2, 2, 2, 2), value=-1.0)[:, self.sources]
        patches = F.unfold(padded, kernel_size=5, stride=2).view(len(inputs), self.groups, -1, self.size**2)
        sums = self.weight.view(self.groups, -1, patches.shape[2]) @ patches
        return (sums.flatten(1, 2) + self.bias).view(-1, len(self.bias), self.size, self.size)

    def extra_repr(self) -> str:
        """Maps and units."""
        return f"maps={len(self.weight)}, size={self.size}, groups={self.groups}"


class LeCun1989(nn.Sequential):
    """16x16 pixels in [-1, 1] -> H1 12x8x8 -> H2 12x4x4 -> H3 30 -> outputs, tanh after each; biases start at 0.

    With 10 outputs: 9760 parameters, 1256 units (pixels included), 64660 connections.

    Weights start uniform within +-2.4/sqrt(fan_in), a common reading of the paper's 2.4/F_i. The paper minimises by a diagonal
    Newton method, the card's recipe by plain gradient descent; both see one example a step.

    Args:
        input_shape: (1, 16, 16).
        num_outputs: Number of outputs.

    Raises:
        ShapeError: The examples are of another shape.

    Source:
        LeCun, Boser, Denker, Henderson, Howard, Hubbard, Jackel 1989, Backpropagation applied to handwritten zip code
        recognition.
    """

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        if tuple(input_shape) != (1, 16, 16):
            raise ShapeError(
                f"model 'lecun1989' got examples of shape {tuple(input_shape)}, expected (1, 16, 16); resize the images"
            )
        super().__init__(
            OrderedDict(
                h1=SharedKernels([[0]], out_maps=12, size=8),
                tanh1=nn.Tanh(),
                h2=SharedKernels(H2_SOURCES, out_maps=12, size=4),
                tanh2=nn.Tanh(),
                flatten=nn.Flatten(),
                h3=_linear(192, 30),
                tanh3=nn.Tanh(),
                output=_linear(30, num_outputs),
                tanh4=nn.Tanh(),
            )
        )

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """Outputs in (-1, 1)."""
        expect_inputs("h1", inputs, (1, 16, 16))
        for layer in self:
            inputs = layer(inputs)
        return inputs


def _weights(outputs: int, fan_in: int) -> Tensor:
    bound = 2.4 / math.sqrt(fan_in)
    return torch.empty(outputs, fan_in).uniform_(-bound, bound)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    layer.weight = nn.Parameter(_weights(outputs, inputs))
    layer.bias = nn.Parameter(torch.zeros(outputs))
    return layer
