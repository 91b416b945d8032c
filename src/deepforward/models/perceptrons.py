"""Perceptrons: fully connected layers of any depth and width."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption, UnknownName
from deepforward.layers.activations import activation as make_activation
from deepforward.layers.initialization import INITIALIZATIONS, draw_critical_
from deepforward.layers.recognition import elementwise
from deepforward.layers.residual import Skip
from deepforward.layers.shapes import expect_inputs
from deepforward.theory.mean_field import critical_point

NORMALIZATIONS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class Perceptron(nn.Sequential):
    """A perceptron: hidden layers activation(norm(W x + b)), then an affine output layer.

    Modules are named for a table read from top to bottom: `hidden1.affine`, `hidden1.norm`, `hidden1.activation`, ...,
    `output`; inside a skip, `block2.skip.branch.hidden2.affine`.

    Args:
        input_shape: Shape of one example; flattened.
        num_outputs: Number of outputs.
        depth: Number of hidden layers.
        width: Units of each hidden layer, one number or `depth` numbers.
        activation: Name of the activation (see `layers.activations`).
        initialization: `default` (torch's: uniform, Var W = 1/(3 fan_in)), `he`, `xavier`, `lecun`, `orthogonal`, or `critical`
            (that of the activation, for standardised data).
        normalization: `none`, `batch` or `layer`, before the activation.
        residual: Number of affine layers that each identity skip spans (the last skip: what is left); 0 is none, 2 is He et al.
            The first hidden layer, which changes the width, and layers that do so later have no skip.
        residual_scale: Factor of each branch; 1 is He et al., None is 1/sqrt(number of skips), which any depth bears even
            without normalisation.

    Raises:
        InvalidOption: A number out of range.
        UnknownName: An unknown activation, initialisation or normalisation.
        ShapeError: On calling it with inputs of another shape.

    Source:
        Rumelhart, Hinton, Williams 1986, Learning representations by back-propagating errors; skips: He et al. 2016.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        depth: int = 3,
        width: int | Sequence[int] = 64,
        activation: str = "relu",
        initialization: str = "default",
        normalization: str = "none",
        residual: int = 0,
        residual_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        self.flatten = nn.Flatten()
        widths = [math.prod(input_shape), *_widths(depth, width)]
        if residual < 0:
            raise InvalidOption(f"perceptron got residual={residual}, expected 0 (no skips) or more layers per skip")
        layers = [_hidden_layer(a, b, activation, normalization) for a, b in pairwise(widths)]
        for name, block in _connect(layers, widths, residual):
            self.add_module(name, block)
        skips = [child for child in self.modules() if isinstance(child, Skip)]
        for skip in skips:
            skip.scale = 1 / math.sqrt(len(skips)) if residual_scale is None else residual_scale
        self.output = nn.Linear(widths[-1], num_outputs)
        hidden = [child for name, child in self.named_modules() if name.endswith(".affine")]
        _initialize(self, hidden, initialization, activation)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """Outputs without a final activation: logits or values."""
        expect_inputs("flatten", inputs, self.input_shape)
        for layer in self:
            inputs = layer(inputs)
        return inputs


def _initialize(model: nn.Module, hidden: Sequence[nn.Module], initialization: str, activation: str) -> None:
    if initialization == "default":
        return
    rng = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    if initialization == "critical":
        point = critical_point(elementwise(make_activation(activation)))
        for number, affine in enumerate(hidden):
            draw_critical_(affine, point, rng, input_square=None if number else 1.0)
    elif initialization in INITIALIZATIONS:
        INITIALIZATIONS[initialization](model, rng)
    else:
        raise UnknownName("initialization", initialization, ["default", "critical", *INITIALIZATIONS])


def _widths(depth: int, width: int | Sequence[int]) -> list[int]:
    if depth < 0:
        raise InvalidOption(f"perceptron got depth={depth}, expected 0 or more hidden layers")
    widths = [width] * depth if isinstance(width, int) else list(width)
    if len(widths) != depth or any(w < 1 for w in widths):
        raise InvalidOption(f"perceptron got width={width} at depth={depth}, expected one positive number or {depth} of them")
    return widths


def _hidden_layer(inputs: int, outputs: int, activation: str, normalization: str) -> OrderedDict[str, nn.Module]:
    layer: OrderedDict[str, nn.Module] = OrderedDict(affine=nn.Linear(inputs, outputs))
    if normalization in NORMALIZATIONS:
        layer["norm"] = NORMALIZATIONS[normalization](outputs)
    elif normalization != "none":
        raise UnknownName("normalization", normalization, ["none", *NORMALIZATIONS])
    layer["activation"] = make_activation(activation)
    return layer


def _connect(layers: list[OrderedDict[str, nn.Module]], widths: list[int], residual: int) -> list[tuple[str, nn.Sequential]]:
    """Group the layers into the blocks that a skip spans; a block that changes the width stays plain."""
    blocks: list[tuple[str, nn.Sequential]] = []
    first = 0
    while first < len(layers):
        last = min(first + residual, len(layers))
        if residual and first > 0 and len(set(widths[first : last + 1])) == 1:
            blocks.append((f"block{first + 1}", _residual_block(layers[first:last], first + 1)))
            first = last
        else:
            blocks.append((f"hidden{first + 1}", nn.Sequential(layers[first])))
            first += 1
    return blocks


def _residual_block(layers: list[OrderedDict[str, nn.Module]], number: int) -> nn.Sequential:
    """activation(x + branch(x)): the last activation of the branch acts on the sum."""
    last = layers[-1].pop("activation")
    branch = nn.Sequential(OrderedDict((f"hidden{number + i}", nn.Sequential(layer)) for i, layer in enumerate(layers)))
    return nn.Sequential(OrderedDict(skip=Skip(branch), activation=last))
