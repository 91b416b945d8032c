"""Gradients that shrink or grow on their way from the output to the input."""

from __future__ import annotations

from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.flow import TOLERANCE, Flow, gradient_flow
from deepforward.clinic.rules.progress import thriving

#: Depth beyond which a critical initialisation alone no longer helped kinked activations, whose inputs become ever more alike.
VERY_DEEP = 20

#: Decades at which a float32 step of the layer that learns least is lost in the rounding of the one that learns most.
FLOAT32_DECADES = 7.0


def vanishing(evidence: Evidence) -> list[Finding]:
    """The gradient shrinks from layer to layer by more than the tolerance, and the network does not thrive.

    Source: Hochreiter 1991; Glorot and Bengio 2010; Pennington, Schoenholz, Ganguli 2018 (ordered phase, chi < 1).
    """
    flow = gradient_flow(evidence.readings)
    if flow is None or flow.decades > -TOLERANCE or thriving(evidence):
        return []
    order = ["critical-initialization", "batch-normalization", "residual-connections", "activation-swap"]
    if len(flow.layers) > VERY_DEEP:
        order.insert(0, order.pop(2))
    return [
        Finding(
            rule="vanishing",
            layer=flow.origin,
            severity=_severity(flow, evidence),
            cause=f"{_change('shrinks', flow)}: the first layers hardly learn",
            evidence=_numbers(flow),
            source="Glorot and Bengio 2010; Pennington, Schoenholz, Ganguli 2018",
            prescriptions=tuple(order),
        )
    ]


def exploding(evidence: Evidence) -> list[Finding]:
    """The gradient grows from layer to layer by more than the tolerance, and the network does not thrive.

    Source: Bengio, Simard, Frasconi 1994; Pennington, Schoenholz, Ganguli 2018 (chaotic phase, chi > 1); for batch
    normalisation without skips, 1.21 times per layer: Yang, Pennington, Rao, Sohl-Dickstein, Schoenholz 2019.
    """
    flow = gradient_flow(evidence.readings)
    if flow is None or flow.decades < TOLERANCE or thriving(evidence):
        return []
    normalised = evidence.readings is not None and any("Norm" in kind for kind in evidence.readings.kinds)
    return [
        Finding(
            rule="exploding",
            layer=flow.origin,
            severity=_severity(flow, evidence),
            cause=f"{_change('grows', flow)}: no step fits both the first and the last layers{_overflow(evidence)}",
            evidence=_numbers(flow),
            source="Bengio, Simard, Frasconi 1994; Pennington, Schoenholz, Ganguli 2018; Yang et al. 2019",
            prescriptions=("residual-connections", "gradient-clipping")
            if normalised
            else ("critical-initialization", "residual-connections", "batch-normalization", "gradient-clipping"),
        )
    ]


def _change(verb: str, flow: Flow) -> str:
    decades = f"{abs(flow.decades):.1f} decades"
    if flow.is_gradual:
        speed = f"{10 ** abs(flow.rate):.3g} times per layer"
        return f"the gradient {verb} {speed} on its way from the output to the input, {decades} over {len(flow.layers)} layers"
    return f"the gradient {verb} by {decades} on its way from the output to the input, most of it from {flow.origin} on"


def _overflow(evidence: Evidence) -> str:
    origins = evidence.readings.origins if evidence.readings is not None else ()
    return f", and NaN or infinity arose at step {origins[0]['step']}, first in {origins[0]['layer']}" if origins else ""


def _severity(flow: Flow, evidence: Evidence) -> float:
    return min(1.0, abs(flow.decades) / FLOAT32_DECADES) if evidence.progress is None else 1.0 - evidence.progress


def _numbers(flow: Flow) -> dict[str, float]:
    return {"rate_per_layer": flow.rate, "decades": flow.decades, "layers": len(flow.layers)}
