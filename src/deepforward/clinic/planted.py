"""Networks that can be made ill in one known way, as a stranger's file would hold them: plain torch, nothing of ours."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "selu": nn.SELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class _Scaled(nn.Module):
    """x + scale * branch(x)."""

    def __init__(self, branch: nn.Module, scale: float) -> None:
        super().__init__()
        self.branch, self.scale = branch, scale

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.scale * self.branch(inputs)


def stack(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    kind: str = "dense",
    depth: int = 3,
    width: int = 32,
    activation: str = "relu",
    weight_variance: float | None = None,
    bias_variance: float = 0.0,
    normalized: bool = False,
    residual: bool = False,
    dead: int = 0,
    dead_share: float = 1.0,
    cells: int = 2,
) -> nn.Module:
    """Equal hidden layers, one behind the other, and an affine output.

    Args:
        input_shape: Shape of one example.
        num_outputs: Number of outputs.
        kind: `dense`, or `convolutional` (3 x 3, maps of the size of the image, averaged to `cells` x `cells` at the end).
        depth: Number of hidden layers.
        width: Units or maps of each.
        activation: `relu`, `gelu`, `selu`, `tanh` or `sigmoid`.
        weight_variance: fan_in * Var W of the hidden layers; None is torch's own initialisation.
        bias_variance: Var b of the hidden layers, if `weight_variance` is given.
        normalized: Batch normalisation before each activation.
        residual: A skip past each hidden layer but the first, its branch scaled by 1/sqrt(depth).
        dead: Number of the hidden layer, from 1, whose bias never lets a unit fire; 0 is none.
        dead_share: Share of that layer's units, in (0, 1].
        cells: Side of what convolutional maps are averaged to; 1 is one number a map.
    """
    dense = kind == "dense"
    sizes = [math.prod(input_shape) if dense else input_shape[0], *[width] * depth]
    layers: list[nn.Module] = [nn.Flatten()] if dense else []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=1):
        affine = nn.Linear(inputs, outputs) if dense else nn.Conv2d(inputs, outputs, 3, padding=1)
        _draw(affine, weight_variance, bias_variance)
        if number == dead and affine.bias is not None:
            nn.init.constant_(affine.bias[: round(dead_share * outputs)], -10.0)
        norm = [nn.BatchNorm1d(outputs) if dense else nn.BatchNorm2d(outputs)] if normalized else []
        layer = nn.Sequential(affine, *norm, _ACTIVATIONS[activation]())
        layers.append(_Scaled(layer, depth**-0.5) if residual and number > 1 else layer)
    end = [] if dense else [nn.AdaptiveAvgPool2d(cells), nn.Flatten()]
    return nn.Sequential(*layers, *end, nn.Linear(sizes[-1] * (1 if dense else cells**2), num_outputs))


def _draw(affine: nn.Linear | nn.Conv2d, weight_variance: float | None, bias_variance: float) -> None:
    if weight_variance is not None:
        nn.init.normal_(affine.weight, std=math.sqrt(weight_variance / affine.weight[0].numel()))
        assert affine.bias is not None
        nn.init.normal_(affine.bias, std=math.sqrt(bias_variance))


def dilated(
    input_shape: tuple[int, ...], num_outputs: int, *, rates: tuple[int, ...] = (1, 2, 3), width: int = 12
) -> nn.Module:
    """A class for each pixel, from dilated convolutions of 3 x 3 taps and nothing else that mixes pixels.

    Args:
        input_shape: Shape of one image.
        num_outputs: Number of classes.
        rates: Dilation of each convolution.
        width: Maps of each.
    """
    layers: list[nn.Module] = []
    for inputs, rate in zip([input_shape[0], *[width] * len(rates)], rates, strict=False):
        layers += [nn.Conv2d(inputs, width, 3, padding=rate, dilation=rate, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, num_outputs, 1))
