"""Numbers that stop being numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deepforward.clinic.finding import Evidence, Finding


def not_finite(evidence: Evidence) -> list[Finding]:
    """NaN or infinity arose: names the layer that made it, and the step.

    Source: Goodfellow, Bengio, Courville 2016, section 4.1 (overflow); Bengio 2012 (the largest usable rate).
    """
    origins = evidence.readings.origins if evidence.readings is not None else ()
    lost = [row for row in evidence.history if not math.isfinite(row.get("train/loss", 0.0))]
    if not origins and not lost:
        return []
    origin: Mapping[str, Any] = origins[0] if origins else {"step": None, "layer": "", "place": "loss"}
    when = f"at step {origin['step']}" if origin["step"] is not None else f"in epoch {lost[0]['epoch']:.0f}"
    why, prescriptions = _why(origin, evidence)
    return [
        Finding(
            rule="not-finite",
            layer=str(origin["layer"]),
            severity=1.0,
            cause=f"NaN or infinity first arose {_where(origin)} {when}: {why}",
            evidence=dict(origin),
            source="Bengio 2012, Practical recommendations for gradient-based training",
            prescriptions=prescriptions,
            change="" if prescriptions else _mend(origin),
        )
    ]


def _mend(origin: Mapping[str, Any]) -> str:
    if origin["place"] == "input":
        return "repair or remove these examples"
    return f"keep what {origin['layer'] or 'the loss'} divides by, or takes the root or logarithm of, away from 0"


def _where(origin: Mapping[str, Any]) -> str:
    if origin["layer"] in ("", "loss"):
        return "in the loss"
    return "in the inputs" if origin["place"] == "input" else f"in the {origin['place']} of {origin['layer']}"


def _why(origin: Mapping[str, Any], evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """The reason, and what to try. Where no step has moved the weights yet, the steps cannot be it."""
    if origin["place"] == "input":
        return "the data hold numbers that are not finite; repair or remove these examples", ()
    if not evidence.descends:
        return "the weights grow beyond all bounds, faster than samples of the model can correct them", ("slower-learning",)
    usual = ("learning-rate", "gradient-clipping", "batch-normalization")
    moved = origin["step"] != 0 and (evidence.readings is None or "update_ratio" in evidence.readings.values)
    if not moved:
        why = "no step was taken yet, so that an operation there is at fault, such as log(0), 0/0 or an overflow"
        return why, ()
    return "the steps are too long for the curvature of the loss", usual
