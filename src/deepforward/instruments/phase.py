"""Whether a network is in order, at the edge, or in chaos: its gradient layer by layer, measured against theory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deepforward.errors import DeepforwardError, InvalidModel
from deepforward.instruments.examination import Examination
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.model_call import ModelCall, call_of
from deepforward.instruments.phase_pass import Place, double_twin, places_of
from deepforward.instruments.phase_prediction import name_of, predictions, settled, sigmas_of
from deepforward.layers.wiring import trace
from deepforward.theory.mean_field import Elementwise

#: Layers in which a network can be trained, in units of the depth scale (Schoenholz et al. 2017, section 5).
_TRAINABLE = 6.0

#: Largest |chi - 1| that is called critical, however little a small network tells.
_NEAR = 0.1


@dataclass(frozen=True)
class LayerPhase:
    """One place that all of the gradient passes, and what becomes of the gradient from the next place to it.

    Attributes:
        key: `name#call` of the affine layer, or of the block, whose output z it is.
        source: Where the prediction for the stretch to the next place comes from: `mean field`, where an affine layer, an
            activation and an affine layer follow each other; `measured`, by one random vector sent back through the stretch;
            `end` at the last place.
        activation: Name of the activation that follows, where it is one of deepforward's and `source` is `mean field`.
        sigma_w: sqrt(fan_in * mean square weight) of the affine layer, fan_in counting the kernel; None for a block.
        sigma_b: sqrt(mean square bias); None for a block.
        width: Units of z: channels of images, features otherwise.
        q: Mean square of z.
        q_predicted: The same by mean field; None where it does not apply.
        chi: Factor by which |dL/dz|^2 should grow from the next place to this: by mean field, or of the random vector.
        growth: Factor by which it does grow; None if no gradient arrives.
        predicted_decades: log10(|dL/dz|^2 / |dL/dz_last|^2) as predicted, from here to the last place; None if nothing should
            arrive.
        measured_decades: The same as measured; None if no gradient arrives.
        band: Standard deviation of the predicted decades from network to network, from width and depth; 0 where measured.
    """

    key: str
    source: Literal["mean field", "measured", "end"]
    activation: str | None
    sigma_w: float | None
    sigma_b: float | None
    width: int
    q: float
    q_predicted: float | None
    chi: float | None
    growth: float | None
    predicted_decades: float | None
    measured_decades: float | None
    band: float


@dataclass(frozen=True)
class PhaseReading:
    """Phase of a network.

    Attributes:
        layers: Places in the order of the forward pass.
        source: `mean field` if at least half of the stretches are predicted by it, else `measured`; what the next ten rest on.
        phase: `ordered` (gradients vanish), `critical` or `chaotic` (they explode); None for a network of one place, and where
            width and depth are too small to tell. Critical is what cannot be told from chi = 1, at a distance below 0.1: by the
            number of weights, and because the depth scale is six times the depth.
        chi: Factor by which |dL/dz|^2 grows a layer, backwards: by mean field where the signal has settled, or the geometric
            mean of those measured, the head left out; None for one place.
        depth_scale: 1 / |log chi|, layers in which it changes by e; None at criticality.
        trainable_depth: 6 depth scales, about as deep as such a network can be trained, or `critical`: any depth.
        activation: Name of the activation that follows most of the affine layers, if it is one of deepforward's.
        sigma_w, sigma_b: Root mean square over the affine layers between activations that mean field predicts: the
            network's position in the phase picture; None if `source` is not `mean field`.
        critical_sigma_w, critical_sigma_b: Where a network of this activation is critical; None likewise.
        growth: Geometric mean of the factors by which |dL/dz|^2 does grow, the head left out; None if nothing arrives.
        predicted_decades, measured_decades, band: Those of the first place.
        depth_to_width: Sum of 1 / width over the places but the last, L/N: how far single networks depart from the prediction.
        doubled: Whether the gradient was taken in float64, having fallen below the range of the model's own numbers.
    """

    layers: tuple[LayerPhase, ...]
    source: Literal["mean field", "measured"]
    phase: Literal["ordered", "critical", "chaotic"] | None
    chi: float | None
    depth_scale: float | None
    trainable_depth: float | Literal["critical"] | None
    activation: str | None
    sigma_w: float | None
    sigma_b: float | None
    critical_sigma_w: float | None
    critical_sigma_b: float | None
    growth: float | None
    predicted_decades: float | None
    measured_decades: float | None
    band: float
    depth_to_width: float
    doubled: bool


class Phase(Examination[PhaseReading]):
    """The gradient's growth from layer to layer, measured against mean field theory along the layers of the very network.

    Variances are read off the weights of each layer, the activation is taken as found, and the second moment follows the layers
    from that of the data, not from a fixed point. Where no affine layer, activation and affine layer follow each other
    (normalisation, residual blocks, attention, dropout in training mode) a random vector is sent back instead.

    Theory is for independent weights, as at initialisation; how far training leads away from it shows in the difference.

    Args:
        seed: Fixes the random vectors.

    Source:
        Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def _measure(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]) -> PhaseReading:
        """Measure on the first batch.

        Raises:
            InvalidModel: There is no place that all of the gradient passes, an operation cannot be differentiated in parts, or
                an output is not finite.
        """
        batch = batches[0]
        with left_as_found(model):  # a weight that is computed from others may change them when it is read
            activations = _activations(model, call_of(model, batch, loss))

            def places(of: nn.Module) -> list[Place]:
                rng = torch.Generator().manual_seed(self.seed)
                return places_of(of, lambda m: loss(m, batch), lambda a, b: _function(a, b, activations) is None, rng)

            found, doubled = places(model), False
            if not found:
                raise InvalidModel(f"{type(model).__name__} has no affine layer or block that all of the gradient passes")
            if any(place.out_of_range for place in found):
                try:
                    found, doubled = places(double_twin(model)), True
                except Exception:
                    doubled = False  # the model insists on 32 bits; what they hold was measured
            broken = next((place.key for place in found if not math.isfinite(place.square)), None)
            if broken is not None:
                raise InvalidModel(f"the output of {broken} is not finite; locate_nonfinite names the layer where that begins")
            return _reading(found, [_function(a, b, activations) for a, b in itertools.pairwise(found)], doubled)


def _activations(model: nn.Module, called: ModelCall) -> Mapping[str, Elementwise]:
    """The activation behind each affine layer that is called once, in a model that takes one tensor."""
    found = called.inputs()
    if found is None or len(called.args) != 1 or called.kwargs or called.args[0] is not found[1]:
        return {}
    try:
        with left_as_found(model):
            hidden = trace(model, found[1]).hidden if found[1].is_floating_point() else ()
    except DeepforwardError:
        return {}
    return {layer.name: layer.activation for layer in hidden if layer.calls == 1}


def _function(here: Place, there: Place, activations: Mapping[str, Elementwise]) -> Elementwise | None:
    """The activation that alone leads from one affine layer to the next; None if there is more in between."""
    name, _, call = here.key.rpartition("#")
    phi = activations.get(name)
    if phi is None or call != "0" or there.given is None or not isinstance(getattr(there.module, "weight", None), Tensor):
        return None
    ours, theirs = phi(here.output.cpu().double()).flatten(), there.given.cpu().double().flatten()
    tolerance = math.sqrt(torch.finfo(here.output.dtype).eps)
    same = ours.shape == theirs.shape and bool((ours - theirs).norm() <= tolerance * theirs.norm())
    return phi if same else None


def _reading(places: Sequence[Place], functions: Sequence[Elementwise | None], doubled: bool) -> PhaseReading:
    predicted = predictions(places, functions)
    sigmas = [sigmas_of(place) for place in places]
    above = [*places[1:], None]
    layers = tuple(
        LayerPhase(
            key=place.key,
            source=step.source,
            activation=name_of(step.function),
            sigma_w=math.sqrt(sigma.weight) if sigma else None,
            sigma_b=math.sqrt(sigma.bias) if sigma else None,
            width=place.width,
            q=place.square,
            q_predicted=step.q,
            chi=step.chi,
            growth=None if after is None else _growth(place, after),
            predicted_decades=step.decades if math.isfinite(step.decades) else None,
            measured_decades=_decades(place, places[-1]),
            band=step.band,
        )
        for place, after, step, sigma in zip(places, above, predicted, sigmas, strict=True)
    )
    depth = len(layers) - 1
    measured = layers[0].measured_decades
    limit = settled(places, predicted)
    chi = limit.chi if limit else _average([layer.predicted_decades for layer in layers])
    tolerance = limit.tolerance if limit else _scatter(layers)
    kind = _kind(chi, max(tolerance, 1 / (_TRAINABLE * depth))) if depth else None
    scale = None if chi is None or kind == "critical" else 1 / abs(math.log(chi)) if chi > 0 else 0.0
    return PhaseReading(
        layers=layers,
        source="mean field" if limit else "measured",
        phase=kind,
        chi=chi,
        depth_scale=scale,
        trainable_depth="critical" if kind == "critical" else None if scale is None else _TRAINABLE * scale,
        activation=limit.activation if limit else None,
        sigma_w=math.sqrt(limit.weight_variance) if limit else None,
        sigma_b=math.sqrt(limit.bias_variance) if limit else None,
        critical_sigma_w=math.sqrt(limit.critical.weight_variance) if limit else None,
        critical_sigma_b=math.sqrt(limit.critical.bias_variance) if limit else None,
        growth=_average([layer.measured_decades for layer in layers]),
        predicted_decades=layers[0].predicted_decades,
        measured_decades=measured,
        band=layers[0].band,
        depth_to_width=sum(1 / layer.width for layer in layers[:-1]),
        doubled=doubled,
    )


def _average(decades: Sequence[float | None]) -> float | None:
    """Geometric mean of the growth from place to place; the head, which comes once and may pool, counts only if alone."""
    last = -2 if len(decades) > 2 else -1
    first, end, depth = decades[0], decades[last], len(decades) + last
    return None if not depth or first is None or end is None else 10 ** ((first - end) / depth)


def _scatter(layers: Sequence[LayerPhase]) -> float:
    """Three times the standard deviation, over networks of this width, of the mean of the growth's logarithm."""
    depth = max(len(layers) - 1, 1)
    return 3 * math.sqrt(5 * sum(1 / layer.width for layer in layers[:-1])) / depth


def _kind(chi: float | None, tolerance: float) -> Literal["ordered", "critical", "chaotic"] | None:
    if chi is None:
        return None
    if abs(chi - 1) < tolerance:
        return "critical" if abs(chi - 1) < _NEAR else None
    return "ordered" if chi < 1 else "chaotic"


def _decades(place: Place, last: Place) -> float | None:
    if not (place.gradient > 0 and last.gradient > 0 and math.isfinite(place.gradient * last.gradient)):
        return None
    return 2 * (math.log10(place.gradient) - math.log10(last.gradient))


def _growth(place: Place, after: Place) -> float | None:
    decades = _decades(place, after)
    return None if decades is None else 10**decades
