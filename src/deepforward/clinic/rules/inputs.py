"""Inputs in units, or about a centre, that no initialisation expects."""

from __future__ import annotations

import math

from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.rules.progress import HALF
from deepforward.instruments.normalization_check import InputScale

#: Between which root mean squares a model's inputs call for nothing; initialisations assume 1.
LEAST, MOST = 0.1, 3.0

#: Mean of the inputs, in their standard deviations, beyond which what tells examples apart is a small part of them.
OFF_CENTRE = 3.0


def unscaled_inputs(evidence: Evidence) -> list[Finding]:
    """The inputs are far from mean 0 and standard deviation 1, and training does not come halfway.

    Halfway, because networks were seen to train on raw pixels faster than on standardised ones: scaling is no end in itself.

    Source: LeCun, Bottou, Orr, Müller 1998, Efficient backprop, section 4.3.
    """
    scale, inputs, progress = evidence.input_scale, evidence.inputs, evidence.progress
    if scale is None or not math.isfinite(scale) or not evidence.descends or (progress is not None and progress >= HALF):
        return []
    off_centre = inputs is not None and abs(inputs.overall_mean) > OFF_CENTRE * inputs.overall_standard_deviation
    if LEAST <= scale <= MOST and not off_centre:
        return []
    if off_centre:
        effect = "what tells examples apart is a small part of them"
    elif scale > MOST:
        effect = "the first layer is driven to its ends, and its steps are too long"
    else:
        effect = "they hardly reach the first layer"
    return [
        Finding(
            rule="unscaled-inputs",
            layer="",
            severity=0.5 if progress is None else 1.0 - progress,
            cause=f"the inputs have a root mean square of {scale:.3g}{_in_detail(inputs)}; weights are drawn for a mean of 0 "
            f"and a standard deviation of 1, so that {effect}",
            evidence={"rms": scale} | _numbers(inputs),
            source="LeCun, Bottou, Orr, Müller 1998, Efficient backprop, section 4.3",
            prescriptions=("standardise-data", "batch-normalization", "learning-rate"),
            change=_change(inputs),
        )
    ]


def _in_detail(inputs: InputScale | None) -> str:
    return f" ({inputs.says})" if inputs is not None else ""


def _numbers(inputs: InputScale | None) -> dict[str, float]:
    return {"mean": inputs.overall_mean, "standard_deviation": inputs.overall_standard_deviation} if inputs is not None else {}


def _change(inputs: InputScale | None) -> str:
    if inputs is None:
        return ""
    mean, spread = inputs.overall_mean, inputs.overall_standard_deviation
    return f"feed the model (x - {mean:.3g}) / {spread:.3g}, by the statistics of each feature"
