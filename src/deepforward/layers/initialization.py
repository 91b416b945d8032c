"""Initialisation of existing modules in place, with explicit randomness.

Each function draws the weights of every Linear and Conv layer inside a module and sets their biases to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import NoEffect
from deepforward.layers.orthogonal import Orthogonal, delta_orthogonal_, fill_, orthogonal_, shaped
from deepforward.layers.recognition import AFFINE
from deepforward.layers.wiring import trace
from deepforward.theory.mean_field import Criticality, Elementwise, critical_point


def fan_in(weight: Float[Tensor, "outputs inputs *kernel"]) -> int:
    """Terms in the sum that makes one output: inputs times the kernel's size."""
    return weight[0].numel()


def fan_out(weight: Float[Tensor, "outputs inputs *kernel"]) -> int:
    """Sums that one input takes part in: outputs times the kernel's size."""
    return weight.shape[0] * weight[0, 0].numel()


def _affine_layers(module: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
    for child in module.modules():
        if isinstance(child, AFFINE):
            yield child.weight, child.bias


def _normal(module: nn.Module, rng: torch.Generator, variance: Callable[[Tensor], float]) -> None:
    with torch.no_grad():
        for weight, bias in _affine_layers(module):
            weight.normal_(0.0, math.sqrt(variance(weight)), generator=rng)
            if bias is not None:
                bias.zero_()


def he_(module: nn.Module, rng: torch.Generator) -> None:
    """Var W = 2/fan_in, which keeps the second moment through ReLU.

    Source:
        He, Zhang, Ren, Sun 2015, Delving deep into rectifiers, eq. 10.
    """
    _normal(module, rng, lambda weight: 2 / fan_in(weight))


def xavier_(module: nn.Module, rng: torch.Generator) -> None:
    """Var W = 2/(fan_in + fan_out), between what the signal and what the gradient asks for.

    Source:
        Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural networks, eq. 12.
    """
    _normal(module, rng, lambda weight: 2 / (fan_in(weight) + fan_out(weight)))


def lecun_(module: nn.Module, rng: torch.Generator) -> None:
    """Var W = 1/fan_in, which keeps the second moment through a linear layer.

    Source:
        LeCun, Bottou, Orr, Mueller 1998, Efficient backprop, section 4.6.
    """
    _normal(module, rng, lambda weight: 1 / fan_in(weight))


#: Initialisations that need no example, by name.
INITIALIZATIONS: Mapping[str, Callable[[nn.Module, torch.Generator], None]] = {
    "he": he_,
    "xavier": xavier_,
    "lecun": lecun_,
    "orthogonal": orthogonal_,
    "delta-orthogonal": delta_orthogonal_,
}


def critical_(
    module: nn.Module,
    example_inputs: Float[Tensor, "batch *shape"],
    rng: torch.Generator,
    *,
    orthogonal: Orthogonal = False,
) -> dict[str, Criticality]:
    """Draw the weights of every hidden affine layer at the critical point of the activation that follows it.

    Var W = sigma_w^2/fan_in and Var b = sigma_b^2 from `critical_point`; layers that enter the module are scaled to the input
    so that the preserved second moment holds from the first layer on. Layers with normalisation behind them, for which the
    scale of the weights means nothing, and layers without an activation behind them keep their weights.

    Args:
        module: Any module; changed in place.
        example_inputs: A batch that it accepts, used to see which activation each layer feeds.
        rng: Source of the draws.
        orthogonal: True draws orthogonal weights of the same variance instead of Gaussian ones; "delta" concentrates those of a
            convolution on the middle of its kernel, which alone makes the convolution an isometry (`delta_orthogonal_`).

    Returns:
        The critical point used, by name of the affine layer.

    Raises:
        NoEffect: No affine layer feeds an activation without normalisation in between.
        InvalidModel: The module fails on the example.
        ShapeError: A delta-orthogonal convolution is asked for that has more inputs than outputs; nothing is drawn then.

    Source:
        Pennington, Schoenholz, Ganguli 2018, The emergence of spectral universality in deep networks; for "delta" Xiao et al.
        2018.
    """
    hidden = trace(module, example_inputs).hidden
    # a parametrised weight (weight norm, spectral norm) is computed anew at each call: drawing it would change nothing
    layers = [layer for layer in hidden if layer.norm is None and "weight" in layer.affine._parameters]
    if not layers:
        raise NoEffect(
            "critical initialisation found no Linear or Conv layer that feeds an activation without normalisation; expected at "
            "least one; choose other changes"
        )
    if orthogonal == "delta":
        for layer in layers:
            shaped(layer.affine, "delta", layer.name)
    points = _critical_points({layer.name: layer.activation for layer in layers})
    for layer in layers:
        square = layer.input_square if layer.entering else None
        draw_critical_(layer.affine, points[layer.name], rng, input_square=square, orthogonal=orthogonal)
    return points


def _critical_points(activations: Mapping[str, Elementwise]) -> dict[str, Criticality]:
    """Solves once for layers whose activations agree in value, so that depth costs nothing."""
    grid = torch.linspace(-6, 6, 241, dtype=torch.float64)
    solved: dict[bytes, Criticality] = {}
    points = {}
    for name, phi in activations.items():
        values = phi(grid).detach().numpy().tobytes()
        if values not in solved:
            solved[values] = critical_point(phi)
        points[name] = solved[values]
    return points


def draw_critical_(
    affine: nn.Module,
    point: Criticality,
    rng: torch.Generator,
    *,
    input_square: float | None = None,
    orthogonal: Orthogonal = False,
) -> None:
    """Draw one affine layer: Var W = sigma_w^2/fan_in, Var b = sigma_b^2.

    Args:
        affine: A Linear or Conv layer, changed in place.
        point: The critical point of the activation that follows.
        rng: Source of the draws.
        input_square: For a layer fed with data: the data's mean square, so that `point.q` holds from the first layer on.
        orthogonal: Draw orthogonal weights of the same variance; "delta" as for `critical_`.

    Raises:
        ShapeError: A delta-orthogonal convolution with more inputs than outputs.
    """
    weight, bias = affine.weight, affine.bias
    assert isinstance(weight, Tensor)
    variance = point.weight_variance
    if input_square and point.q is not None:
        variance = (point.q - point.bias_variance) / input_square
    with torch.no_grad():
        if orthogonal:
            _, outputs, inputs = shaped(affine, orthogonal)
            # a tall matrix with orthonormal columns has rows of mean square norm inputs/outputs, not 1
            fill_(affine, math.sqrt(variance * max(1.0, outputs / inputs)), rng, orthogonal)
        else:
            weight.normal_(0.0, math.sqrt(variance / fan_in(weight)), generator=rng)
        if isinstance(bias, Tensor):
            bias.normal_(0.0, math.sqrt(point.bias_variance), generator=rng)
