"""How far the weights of a network are from the edge between order and chaos, and how deep a network at the edge may be."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from deepforward.clinic.finding import Evidence
from deepforward.instruments.phase import PhaseReading
from deepforward.layers.activations import activation as make_activation
from deepforward.layers.recognition import elementwise
from deepforward.theory import MeanFieldLayer, critical_point, propagate, propagate_correlation

#: Correlation of two inputs from which on they count as alike: a critical ReLU network reaches it after 20 layers, from where
#: on such networks were seen to learn no more.
ALIKE = 0.95

#: Most layers that are followed to find that depth.
_DEEPEST = 200

#: Layers that can be trained, in units of the depth scale (Schoenholz et al. 2017, section 5).
_TRAINABLE = 6.0


@dataclass(frozen=True)
class Edge:
    """The hidden layers that mean field theory describes, against what they would be at the edge.

    Attributes:
        activation: Name of the activation that follows most of them.
        layers: How many factors the gradient gets between the first and the last hidden layer.
        sigma_w, sigma_b: sqrt(fan_in * mean square weight), and root mean square of the biases, as found.
        critical_sigma_w, critical_sigma_b: The same at the edge.
        predicted: Decades by which the gradient's size should grow from the last hidden layer to the first.
        measured: Decades by which it does.
        band: Standard deviation of `predicted` from network to network.
    """

    activation: str
    layers: int
    sigma_w: float
    sigma_b: float
    critical_sigma_w: float
    critical_sigma_b: float
    predicted: float
    measured: float
    band: float

    @property
    def departure(self) -> float:
        """Decades of the gradient's size that the weights are off the edge by, over all layers; below 0: towards order."""
        return self.layers * math.log10(self.sigma_w / self.critical_sigma_w) if self.sigma_w > 0 else -math.inf

    @property
    def rate(self) -> float:
        """Decades per layer, as measured."""
        return self.measured / self.layers

    @property
    def trainable_depth(self) -> float:
        """About how many such layers can be trained: six times the depth over which the squared gradient changes by e."""
        return _TRAINABLE * self.layers / (2 * math.log(10) * abs(self.predicted)) if self.predicted else math.inf

    @property
    def change(self) -> str:
        """The weights to draw instead, in words with numbers."""
        words = f"draw the weights at sigma_w {self.sigma_w:.3g} -> {self.critical_sigma_w:.3g}"
        return f"{words}, the biases at sigma_b {self.sigma_b:.3g} -> {self.critical_sigma_b:.3g}"

    def numbers(self) -> dict[str, float | str]:
        """What stands in a finding."""
        return {
            "activation": self.activation,
            "sigma_w": self.sigma_w,
            "critical_sigma_w": self.critical_sigma_w,
            "sigma_b": self.sigma_b,
            "critical_sigma_b": self.critical_sigma_b,
            "predicted_decades": self.predicted,
            "measured_decades": self.measured,
            "band": self.band,
            "trainable_depth": self.trainable_depth,
        }


def edge_of(phase: PhaseReading | None) -> Edge | None:
    """Reduce a phase to its hidden layers, or None where mean field theory describes none or no gradient arrives.

    The stretch into the output layer is left out: its weights are commonly drawn otherwise, and are no part of the depth.
    """
    if phase is None or phase.activation is None or not phase.critical_sigma_w or phase.critical_sigma_b is None:
        return None
    pairs = [
        (layer, above) for layer, above in zip(phase.layers, phase.layers[1:-1], strict=False) if layer.source == "mean field"
    ]
    sigmas = [(above.sigma_w, above.sigma_b or 0.0) for _, above in pairs if above.sigma_w is not None]
    growths = [layer.growth for layer, _ in pairs]
    chis = [layer.chi for layer, _ in pairs]
    if len(sigmas) < len(pairs) or not pairs or not all(g is not None and g > 0 for g in (*growths, *chis)):
        return None
    return Edge(
        activation=phase.activation,
        layers=len(pairs),
        sigma_w=math.sqrt(sum(w**2 for w, _ in sigmas) / len(sigmas)),
        sigma_b=math.sqrt(sum(b**2 for _, b in sigmas) / len(sigmas)),
        critical_sigma_w=phase.critical_sigma_w,
        critical_sigma_b=phase.critical_sigma_b,
        predicted=sum(math.log10(chi) for chi in chis if chi) / 2,
        measured=sum(math.log10(growth) for growth in growths if growth) / 2,
        band=phase.band / 2,
    )


def cosine_of_inputs(evidence: Evidence) -> float:
    """Mean cosine of two inputs as the network gets them, in tenths, so that few are followed; 0 if unknown."""
    seen = evidence.representations
    cosine = seen.input.cosine if seen is not None and seen.input is not None else None
    return round(min(max(cosine or 0.0, 0.0), 1.0), 1)


@functools.cache
def depth_kept_apart(activation: str, cosine: float, alike: float = ALIKE) -> float:
    """Layers at the edge after which two inputs of this cosine have become alike; infinite beyond 200.

    ReLU keeps its gradient at the edge and yet draws all inputs together within 20 layers; tanh never does.

    Args:
        activation: A key of `layers.activations.ACTIVATIONS`.
        cosine: Of the two inputs, in [-1, 1].
        alike: Correlation from which on they count as alike.
    """
    phi = elementwise(make_activation(activation))
    point = critical_point(phi)
    layers = [MeanFieldLayer(point.weight_variance, point.bias_variance, phi, fan_in=10**6)] * _DEEPEST
    square = max((point.q or 1.0) - point.bias_variance, 1e-6) / point.weight_variance
    found = propagate_correlation(layers, propagate(layers, square).q, cosine)
    return float(next((depth for depth, c in enumerate(found, start=1) if c > alike), math.inf))
