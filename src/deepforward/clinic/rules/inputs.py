"""Inputs in units, or about a centre, that no initialisation expects."""

from __future__ import annotations

import math

from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.rules.progress import thriving

#: Between which root mean squares a model's inputs call for nothing; initialisations assume 1.
LEAST, MOST = 0.1, 3.0


def unscaled_inputs(evidence: Evidence) -> list[Finding]:
    """The inputs are far from mean 0 and standard deviation 1, and the network does not thrive.

    Source: LeCun, Bottou, Orr, Müller 1998, Efficient backprop, section 4.3.
    """
    scale = evidence.input_scale
    if scale is None or not math.isfinite(scale) or LEAST <= scale <= MOST or not evidence.descends or thriving(evidence):
        return []
    return [
        Finding(
            rule="unscaled-inputs",
            layer="",
            severity=0.5 if evidence.progress is None else 1.0 - evidence.progress,
            cause=f"the root mean square of the inputs is {scale:.3g}; weights are drawn for 1, so that the first layer is "
            f"{'driven to its ends and its steps are too long' if scale > 1 else 'hardly reached by them'}",
            evidence={"rms": scale},
            source="LeCun, Bottou, Orr, Müller 1998, Efficient backprop, section 4.3",
            prescriptions=("standardise-data", "batch-normalization", "learning-rate"),
        )
    ]
