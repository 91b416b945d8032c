"""Signal and gradient of a deep network with random weights, layer by layer, for any activation.

The second moment q of the pre-activations and the mean square gradient go from layer to layer by

    q'  = sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2
    chi = sigma_w^2 E[phi'(sqrt(q) z)^2],                z ~ N(0, 1), Var W = sigma_w^2 / fan_in, Var b = sigma_b^2.

Criticality is q' = q with chi = 1: neither vanishing nor exploding. Followed along the layers they also say what happens where
q has no fixed point, or has not reached it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from deepforward.errors import InvalidOption
from deepforward.theory.finite_width import Noise, log_mean_and_variance
from deepforward.theory.quadrature import Activation, Elementwise, Moments, identify, moments, moments_of

__all__ = [
    "Criticality",
    "Elementwise",
    "MeanFieldLayer",
    "Moments",
    "Trajectory",
    "critical_point",
    "moments",
    "propagate",
    "second_moments",
]


@dataclass(frozen=True)
class Criticality:
    """A point of the (sigma_w^2, sigma_b^2) plane.

    Attributes:
        weight_variance: sigma_w^2 = fan_in * Var W.
        bias_variance: sigma_b^2.
        q: Second moment of the pre-activations that is preserved; None if any is (odd activations near 0, ReLU family).
        departure: |q' - q| / q at this point; 0 where criticality exists.
        growth: dq'/dq at this point; above 1 a disturbance of q grows with depth.
    """

    weight_variance: float
    bias_variance: float
    q: float | None
    departure: float = 0.0
    growth: float = 1.0


def critical_point(phi: Elementwise, q: float = 1.0) -> Criticality:
    """The variances at which `phi` neither loses nor amplifies signal and gradient.

    - Odd phi (tanh, hard-tanh, identity): sigma_w = 1/|phi'(0)|, sigma_b = 0, the end of the critical line where the whole
      Jacobian is nearest to an isometry.
    - Positively homogeneous phi (ReLU family): sigma_w^2 = 2/(1 + slope^2), sigma_b = 0, every q.
    - Otherwise sigma_w^2 = 1/E[phi'^2] and sigma_b^2 = q - sigma_w^2 E[phi^2] at the q nearest to the one asked for (on a
      logarithmic scale from 1/100 to 100 times) where sigma_b^2 >= 0 and q is no source (dq'/dq <= 1: GELU at q = 1 would run
      away over 50 layers). If there is none (softplus), the q that fails these two by least.

    Args:
        phi: Elementwise function that autograd can differentiate, called on float64.
        q: Preferred second moment of the pre-activations.

    Returns:
        The point; its `departure` is 0 where criticality exists.

    Source:
        Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation; Pennington, Schoenholz, Ganguli 2018.
    """
    grid = torch.linspace(0.05, 6.0, 120, dtype=torch.float64)
    # A leaky rectifier of slope 0.99999 is not odd: torch's own tolerance of 1e-5 would take it for the identity.
    if torch.allclose(phi(-grid), -phi(grid), rtol=1e-12, atol=1e-12):
        slope = _slope_at_zero(phi)
        if slope > 0:
            return Criticality(1 / slope**2, 0.0, None)
    if all(torch.allclose(phi(2 * x), 2 * phi(x), rtol=1e-12, atol=1e-12) for x in (grid, -grid)):
        return Criticality(1 / moments(phi, 1.0).slope, 0.0, None)
    candidates = sorted((q * 10 ** (k / 20) for k in range(-40, 41)), key=lambda c: abs(math.log(c / q)))
    return min((_point_at(phi, c) for c in candidates), key=lambda point: round(point.departure + max(point.growth - 1, 0), 3))


def _slope_at_zero(phi: Elementwise) -> float:
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(phi(x), x)
    return abs(float(slope))


def _point_at(phi: Elementwise, q: float) -> Criticality:
    """The point with chi = 1 at this q, and as near to q' = q as sigma_b^2 >= 0 allows."""
    square, slope, growth, *_ = moments(phi, q)
    if slope == 0:
        return Criticality(1.0, 0.0, q, departure=math.inf)
    bias_variance = q - square / slope
    return Criticality(1 / slope, max(bias_variance, 0.0), q, max(-bias_variance, 0.0) / q, growth / slope)


def second_moments(phi: Elementwise, point: Criticality, q: float, depth: int) -> Float64[Tensor, "layers"]:
    """Second moments after 0 .. depth layers of the map q' = sigma_w^2 E[phi^2] + sigma_b^2.

    Args:
        phi: Elementwise function.
        point: Variances.
        q: Second moment at the start.
        depth: Number of layers.

    Returns:
        `depth` + 1 second moments.
    """
    trajectory = [q]
    for _ in range(depth):
        trajectory.append(point.weight_variance * moments(phi, trajectory[-1]).square + point.bias_variance)
    return torch.tensor(trajectory, dtype=torch.float64)


@dataclass(frozen=True)
class MeanFieldLayer:
    """An affine layer and the activation behind it, as mean field theory sees them.

    Attributes:
        weight_variance: sigma_w^2 = fan_in * Var W, as measured or nominal.
        bias_variance: sigma_b^2, mean square of the biases.
        activation: phi, applied to this layer's pre-activation; the identity for the last layer.
        fan_in: Terms in the sum that makes one pre-activation.
    """

    weight_variance: float
    bias_variance: float
    activation: Elementwise
    fan_in: int


@dataclass(frozen=True)
class Trajectory:
    """What becomes of signal and gradient along the layers; one entry a layer, `chi` one fewer.

    Attributes:
        q: Second moment of each layer's pre-activations z.
        chi: chi[l] = sigma_w^2 of layer l + 1 times E[phi_l'(sqrt(q_l) z)^2], the factor by which |dL/dz|^2, summed over
            units, grows from layer l + 1 to layer l.
        gradient_decades: log10(|dL/dz_l|^2 / |dL/dz_last|^2), of one example, averaged over networks of this width: the
            sum of log10 chi from l on, less what fluctuations take from the mean of a logarithm (ReLU: 5/(2 N) nats a layer).
            -inf where no gradient arrives.
        band: Standard deviation of the same from network to network, decades; grows as sqrt(depth/width). Averaged over
            examples whose gradients differ it is less.
    """

    q: tuple[float, ...]
    chi: tuple[float, ...]
    gradient_decades: tuple[float, ...]
    band: tuple[float, ...]


def propagate(layers: Sequence[MeanFieldLayer], input_square: float) -> Trajectory:
    """Follow the second moment forward and the mean square gradient back, with what finite width adds to both.

    Args:
        layers: From input to output.
        input_square: Mean square of the entries of the input.

    Returns:
        The trajectory.

    Raises:
        InvalidOption: No layers, or a variance or `input_square` that is negative or not finite, or a fan-in below 1.

    Source:
        Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation, for q and chi; Hanin 2018, Which neural
        net architectures give rise to exploding and vanishing gradients, for the growth of the variance as depth over width.
    """
    _check(layers, input_square)
    q = layers[0].weight_variance * input_square + layers[0].bias_variance
    qs, chis, noises = [q], [], []
    known: dict[int, Activation] = {}
    for layer, after in itertools.pairwise(layers):
        if id(layer.activation) not in known:
            known[id(layer.activation)] = identify(layer.activation)
        found = moments_of(known[id(layer.activation)], q)
        noises.append(Noise.of(found, q, after.weight_variance, after.bias_variance, after.fan_in))
        q = after.weight_variance * found.square + after.bias_variance
        qs.append(q)
        chis.append(after.weight_variance * found.slope)
    means, variances = log_mean_and_variance(noises)
    logs = [math.log(chi) if chi > 0 else -math.inf for chi in chis]
    decades = [math.fsum([*logs[at:], *means[at:]]) / math.log(10) for at in range(len(layers))]
    return Trajectory(tuple(qs), tuple(chis), tuple(decades), tuple(math.sqrt(v) / math.log(10) for v in variances))


def _check(layers: Sequence[MeanFieldLayer], input_square: float) -> None:
    if not layers:
        raise InvalidOption("got no layers; expected at least one; pass the affine layers from input to output")
    numbers = [input_square, *(number for layer in layers for number in (layer.weight_variance, layer.bias_variance))]
    wrong = [number for number in numbers if not (math.isfinite(number) and number >= 0)]
    if wrong:
        raise InvalidOption(f"got a mean square of {wrong[0]}; expected a finite number >= 0; look for NaN in the weights")
    if any(layer.fan_in < 1 for layer in layers):
        raise InvalidOption("got a layer with a fan-in below 1; expected at least one input; leave that layer out")
