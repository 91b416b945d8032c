"""Numbers that stop being numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.flow import TOLERANCE, gradient_flow
from deepforward.clinic.rules.progress import unscaled


def not_finite(evidence: Evidence) -> list[Finding]:
    """NaN or infinity arose: names the layer that produced it from finite numbers, and the step.

    Source: Goodfellow, Bengio, Courville 2016, section 4.1 (overflow); Bengio 2012 (the largest usable rate).
    """
    origins = evidence.readings.origins if evidence.readings is not None else ()
    lost = [row for row in evidence.history if not math.isfinite(row.get("train/loss", 0.0))]
    if not origins and not lost:
        return []
    origin: Mapping[str, Any] = origins[0] if origins else {"step": None, "layer": "", "place": "loss"}
    place = f"in the {origin['place']} of {origin['layer']}" if origin["layer"] else "in the loss"
    when = f"at step {origin['step']}" if origin["step"] is not None else f"in epoch {lost[0]['epoch']:.0f}"
    return [
        Finding(
            rule="not-finite",
            layer=str(origin["layer"]),
            severity=1.0,
            cause=f"NaN or infinity first arose {place} {when}, from finite numbers: {_why(evidence)}",
            evidence=dict(origin),
            source="Bengio 2012, Practical recommendations for gradient-based training",
            prescriptions=_prescriptions(evidence),
        )
    ]


def _grew(evidence: Evidence) -> bool:
    flow = gradient_flow(evidence.readings)
    return flow is not None and flow.decades > TOLERANCE


def _why(evidence: Evidence) -> str:
    if unscaled(evidence):
        return "the inputs are not scaled, so that the first steps are too long"
    if _grew(evidence):
        return "the gradient grows from layer to layer"
    return "the steps are too long for the curvature of the loss"


def _prescriptions(evidence: Evidence) -> tuple[str, ...]:
    usual = ("learning-rate", "gradient-clipping", "batch-normalization")
    if unscaled(evidence):
        return ("standardise-data", *usual)
    return ("critical-initialization", *usual) if _grew(evidence) else usual
