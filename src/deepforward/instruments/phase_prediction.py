"""What mean field theory, and random vectors where it does not apply, say of the gradient at each place of a network."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from deepforward.instruments.phase_pass import Place
from deepforward.layers.activations import ACTIVATIONS
from deepforward.theory.mean_field import Criticality, Elementwise, MeanFieldLayer, critical_point, propagate
from deepforward.theory.phase import phase_point

Source = Literal["mean field", "measured", "end"]


class Sigmas(NamedTuple):
    """Variances of an affine layer.

    Attributes:
        weight: fan_in * mean square weight.
        bias: Mean square bias.
        fan_in: Terms in a pre-activation, the kernel counted.
        inside: Share of the kernel's places that fall on the input and not on zeros beside it.
        numbers: Number of weights.
    """

    weight: float
    bias: float
    fan_in: int
    inside: float
    numbers: int


@dataclass(frozen=True)
class Prediction:
    """For one place: the gradient there against the gradient at the last place.

    Attributes:
        source: Of `chi`.
        function: The activation to the next place, where that is all there is before its affine layer.
        q: Mean square by mean field.
        chi: Growth of |dL/dz|^2 from the next place to this.
        decades: log10 of its growth from the last place to this.
        band: Standard deviation of `decades` from network to network.
    """

    source: Source
    function: Elementwise | None
    q: float | None
    chi: float | None
    decades: float
    band: float


def predictions(places: Sequence[Place], functions: Sequence[Elementwise | None]) -> list[Prediction]:
    """Predictions in the order of the places.

    Args:
        places: From input to output, at least one.
        functions: Between two places in a row: the activation that alone leads from one to the affine layer of the other.
    """
    found = [Prediction("end", None, None, None, 0.0, 0.0)]
    end = len(functions)
    while end > 0:
        begin = end - len(list(itertools.takewhile(lambda phi: phi is not None, reversed(functions[:end]))))
        if begin == end:
            gain = places[end - 1].gain
            decades = math.log10(gain) if gain > 0 else -math.inf
            found.append(Prediction("measured", None, None, gain, decades + found[-1].decades, found[-1].band))
            end -= 1
            continue
        above = found.pop()
        found += _along(places[begin : end + 1], [phi for phi in functions[begin:end] if phi is not None], above)
        end = begin
    return found[::-1]


def _along(places: Sequence[Place], functions: Sequence[Elementwise], above: Prediction) -> list[Prediction]:
    """Predictions for affine layers with activations between them, backwards; the last of the places is `above`."""
    sigmas = [sigmas_of(place) for place in places]
    layers = [
        MeanFieldLayer(found.weight * found.inside, found.bias, phi, found.fan_in)
        for found, phi in zip(sigmas, [*functions, torch.clone], strict=True)
        if found is not None
    ]
    seen = propagate(layers, places[0].input_square)
    last = Prediction(above.source, above.function, seen.q[-1], above.chi, above.decades, above.band)
    below = [
        Prediction(
            *("mean field", functions[at], seen.q[at], seen.chi[at]),
            decades=seen.gradient_decades[at] + above.decades,
            band=math.hypot(seen.band[at], above.band),
        )
        for at in range(len(functions))
    ]
    return [last, *reversed(below)]


def sigmas_of(place: Place) -> Sigmas | None:
    """Variances of the affine layer of a place; None for a block."""
    weight, bias = (getattr(place.module, name, None) for name in ("weight", "bias"))
    if not isinstance(weight, Tensor) or weight.dim() < 2 or place.input_shape is None:
        return None
    fan_in = weight[0].numel()
    square = float(weight.detach().double().square().mean())
    bias_square = float(bias.detach().double().square().mean()) if isinstance(bias, Tensor) else 0.0
    return Sigmas(fan_in * square, bias_square, fan_in, _inside(place), weight.numel())


def _inside(place: Place) -> float:
    module = place.module
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) or module.padding_mode != "zeros" or place.input_shape is None:
        return 1.0
    share = 1.0
    for axis, kernel in enumerate(module.kernel_size):
        size, steps, dilation = place.input_shape[2 + axis], place.shape[2 + axis], module.dilation[axis]
        padded = {"valid": 0, "same": dilation * (kernel - 1) // 2}.get(str(module.padding))
        padded = int(module.padding[axis]) if padded is None else padded
        taps = torch.arange(steps)[:, None] * module.stride[axis] - padded + torch.arange(kernel) * dilation
        share *= float(((taps >= 0) & (taps < size)).double().mean())
    return share


@dataclass(frozen=True)
class Settled:
    """What mean field theory says of the network, were it to go on for ever with the same variances.

    Attributes:
        chi: At the fixed point of the second moment.
        tolerance: Three standard deviations of chi, from the number of weights alone.
        activation: Name of the usual activation.
        weight_variance, bias_variance: Means over the affine layers between activations.
        critical: Where networks of this activation are critical.
    """

    chi: float
    tolerance: float
    activation: str | None
    weight_variance: float
    bias_variance: float
    critical: Criticality


def settled(places: Sequence[Place], predicted: Sequence[Prediction]) -> Settled | None:
    """The network as a whole; None where mean field predicts fewer than half of the stretches."""
    steps = [at for at, step in enumerate(predicted) if step.function is not None]
    if not steps or 2 * len(steps) < len(places) - 1:
        return None
    names = [name_of(predicted[at].function) for at in steps]
    usual = Counter(names).most_common(1)[0][0]
    function = predicted[steps[names.index(usual)]].function
    # The first layer is scaled by the data, and what the last one does comes once.
    found = [sigma for at in steps if at > 0 or len(steps) == 1 if (sigma := sigmas_of(places[at]))]
    if function is None or not found:
        return None
    weight, bias = (sum(values) / len(found) for values in ([s.weight for s in found], [s.bias for s in found]))
    point = phase_point(function, weight, bias, start=min(max(places[steps[-1]].square, 1e-6), 1e6))
    numbers = sum(sigma.numbers for sigma in found)
    return Settled(point.chi, 3 * math.sqrt(2 / numbers), usual, weight, bias, critical_point(function))


def name_of(phi: Elementwise | None) -> str | None:
    """Name of an activation in the catalogue of activations, by its values."""
    if phi is None:
        return None
    grid = torch.linspace(-4, 4, 65, dtype=torch.float64)
    values = phi(grid)
    known = (name for name, make in ACTIVATIONS.items() if torch.allclose(make().double()(grid), values, atol=1e-12))
    return next(known, None)
