"""Gradients that shrink or grow on their way from the output to the input."""

from __future__ import annotations

from deepforward.clinic.edge import Edge, cosine_of_inputs, depth_kept_apart, edge_of
from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.flow import TOLERANCE, Flow, gradient_flow
from deepforward.clinic.rules.progress import HALF, thriving

#: Decades from which weights off the edge count where little is learnt: of shrinking, and of growing, which overshoots, too.
SHRINKS, GROWS = 1.0, 0.5

#: The same for batch normalisation, which no weights are to blame for.
NORMALISED = 1.5

#: Depth beyond which a critical initialisation alone no longer helped kinked activations, where the activation is not known.
VERY_DEEP = 20

#: Decades at which a float32 step of the layer that learns least is lost in the rounding of the one that learns most.
FLOAT32_DECADES = 7.0


def vanishing(evidence: Evidence) -> list[Finding]:
    """The gradient shrinks from layer to layer, by more than a finite network's may or as weights in order make it shrink.

    Source: Hochreiter 1991; Glorot and Bengio 2010; Pennington, Schoenholz, Ganguli 2018 (ordered phase, chi < 1).
    """
    flow, edge = gradient_flow(evidence.readings), _off_the_edge(evidence, -1)
    if thriving(evidence) or not (edge or (flow is not None and flow.decades <= -TOLERANCE)):
        return []
    order = ["critical-initialization", "batch-normalization", "residual-connections", "activation-swap"]
    enough = _edge_is_enough(edge, flow, evidence)
    if not enough:
        order = ["residual-connections", "critical-initialization", "batch-normalization"]
    return [
        Finding(
            rule="vanishing",
            layer=flow.origin if flow else "",
            severity=_severity(flow, edge, evidence),
            cause=f"{_change('shrinks', flow, edge)}: the first layers hardly learn{_why(edge)}",
            evidence=_numbers(flow, edge),
            source="Glorot and Bengio 2010; Pennington, Schoenholz, Ganguli 2018",
            prescriptions=tuple(order),
            change=_remedy(edge, enough, evidence),
        )
    ]


def exploding(evidence: Evidence) -> list[Finding]:
    """The gradient grows from layer to layer, by more than a finite network's may or as weights in chaos make it grow.

    Source: Bengio, Simard, Frasconi 1994; Pennington, Schoenholz, Ganguli 2018 (chaotic phase, chi > 1); for batch
    normalisation without skips, 1.21 times per layer: Yang, Pennington, Rao, Sohl-Dickstein, Schoenholz 2019.
    """
    flow, edge = gradient_flow(evidence.readings), _off_the_edge(evidence, 1)
    normalised = evidence.readings is not None and any("Norm" in kind for kind in evidence.readings.kinds)
    tolerance = NORMALISED if normalised and _lacking(evidence) else TOLERANCE
    if thriving(evidence) or not (edge or (flow is not None and flow.decades >= tolerance)):
        return []
    enough = _edge_is_enough(edge, flow, evidence)
    plain = ("critical-initialization", "residual-connections", "batch-normalization", "gradient-clipping")
    return [
        Finding(
            rule="exploding",
            layer=flow.origin if flow else "",
            severity=_severity(flow, edge, evidence),
            cause=f"{_change('grows', flow, edge)}: no step fits both the first and the last layers{_why(edge)}"
            f"{_overflow(evidence)}",
            evidence=_numbers(flow, edge),
            source="Bengio, Simard, Frasconi 1994; Pennington, Schoenholz, Ganguli 2018; Yang et al. 2019",
            prescriptions=("residual-connections", "gradient-clipping") if normalised else plain,
            change=_remedy(edge, enough, evidence),
        )
    ]


def _lacking(evidence: Evidence) -> bool:
    """Whether it is known that little is learnt, so that something must be wrong."""
    return evidence.progress is not None and evidence.progress < HALF


def _off_the_edge(evidence: Evidence, direction: int) -> Edge | None:
    """The weights, if they are off the edge in this direction (-1: order) and the gradient follows."""
    edge = edge_of(evidence.phase)
    if edge is None:
        return None
    least = (SHRINKS if direction < 0 else GROWS) if _lacking(evidence) else TOLERANCE
    return edge if edge.departure * direction > 1.0 and edge.measured * direction > least else None


def _edge_is_enough(edge: Edge | None, flow: Flow | None, evidence: Evidence) -> bool:
    """Whether the network can be trained once its weights are at the edge: if it is not so deep that inputs become alike."""
    if edge is None:
        return flow is None or len(flow.layers) <= VERY_DEEP
    return edge.layers <= depth_kept_apart(edge.activation, cosine_of_inputs(evidence))


def _remedy(edge: Edge | None, enough: bool, evidence: Evidence) -> str:
    if edge is None:
        return ""
    if enough:
        return edge.change
    depth = depth_kept_apart(edge.activation, cosine_of_inputs(evidence))
    return (
        f"{edge.change}, and skips around each layer, the branch times {(edge.layers + 1) ** -0.5:.2g}, since at the edge "
        f"{edge.activation} makes inputs alike within {depth:.0f} layers"
    )


def _overflow(evidence: Evidence) -> str:
    origins = evidence.readings.origins if evidence.readings is not None else ()
    return f", and NaN or infinity arose at step {origins[0]['step']}, first in {origins[0]['layer']}" if origins else ""


def _change(verb: str, flow: Flow | None, edge: Edge | None) -> str:
    way = "on its way from the output to the input"
    if edge is not None:
        measured, predicted = abs(edge.measured), abs(edge.predicted)
        return (
            f"the gradient {verb} {10 ** abs(edge.rate):.3g} times per layer {way}, {measured:.1f} decades over "
            f"{edge.layers + 1} layers (mean field theory: {predicted:.1f}, give or take {edge.band:.1f})"
        )
    assert flow is not None
    decades = f"{abs(flow.decades):.1f} decades"
    if flow.is_gradual:
        return f"the gradient {verb} {10 ** abs(flow.rate):.3g} times per layer {way}, {decades} over {len(flow.layers)} layers"
    return f"the gradient {verb} by {decades} {way}, most of it from {flow.origin} on"


def _why(edge: Edge | None) -> str:
    """The phase, with the numbers that make it."""
    if edge is None:
        return ""
    phase = "ordered" if edge.departure < 0 else "chaotic"
    return (
        f", for the weights are in the {phase} phase, sigma_w {edge.sigma_w:.3g} where {edge.activation} is critical at "
        f"{edge.critical_sigma_w:.3g}, in which about {edge.trainable_depth:.0f} layers can be trained"
    )


def _severity(flow: Flow | None, edge: Edge | None, evidence: Evidence) -> float:
    decades = abs(edge.measured) if edge is not None else abs(flow.decades) if flow is not None else 0.0
    return min(1.0, decades / FLOAT32_DECADES) if evidence.progress is None else 1.0 - evidence.progress


def _numbers(flow: Flow | None, edge: Edge | None) -> dict[str, float | str]:
    seen = {"rate_per_layer": flow.rate, "decades": flow.decades, "layers": len(flow.layers)} if flow is not None else {}
    return seen | (edge.numbers() if edge is not None else {})
