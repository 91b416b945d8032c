"""Dilated convolutions whose rates leave holes."""

from __future__ import annotations

import math

from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.rules.progress import thriving
from deepforward.layers.dilated_stages import DilatedStage
from deepforward.layers.dilation import hybrid_rates

#: Share of the receptive field that must be touched: less, and holes are more than a few pixels at its rim.
ENOUGH = 0.9


def gridding(evidence: Evidence) -> list[Finding]:
    """Convolutions on one grid never see some of the pixels that lie within their receptive field.

    Neighbouring outputs are then computed from different pixels, thin shapes fall through, and noise is averaged over few.

    Source: Wang et al. 2018, Understanding convolution for semantic segmentation, section 3.2; Yu, Koltun, Funkhouser 2017.
    """
    ill = [stage for stage in evidence.dilations or () if stage.coverage < ENOUGH]
    if thriving(evidence) or not ill:
        return []
    worst = min(ill, key=lambda stage: stage.coverage)
    rates = [max(layer.rates) for layer in worst.layers]
    first = next(layer for layer in worst.layers if max(layer.rates) > 1)
    field = " x ".join(map(str, worst.field))
    factor = math.gcd(*rates)
    shared = f": all rates share the factor {factor}" if factor > 1 else ""
    return [
        Finding(
            rule="gridding",
            layer=first.name,
            severity=1.0 - (worst.coverage if evidence.progress is None else evidence.progress),
            cause=f"the dilated convolutions from {first.name or 'the first'} on, of rates {_listed(rates)}, touch "
            f"{worst.coverage:.1%} of their receptive field of {field}{shared}; "
            "what lies in between is never seen, and neighbouring outputs are computed from different pixels",
            evidence={"coverage": worst.coverage, "field": field, "rates": _listed(rates), "factor": factor},
            source="Wang et al. 2018, Understanding convolution for semantic segmentation; Yu, Koltun, Funkhouser 2017",
            prescriptions=("hybrid-dilation",),
            change=_change(worst, rates),
        )
    ]


def _change(stage: DilatedStage, rates: list[int]) -> str:
    kernels = {layer.kernel for layer in stage.layers}
    if len(kernels) > 1 or len(set(kernel := kernels.pop())) > 1:
        return "rates without a common factor, the first one 1, none larger than what the layers before it touch in a row"
    wanted = hybrid_rates(rates, kernel[0])
    kept = "the same receptive field" if sum(wanted) == sum(rates) else "as large a receptive field as can be"
    return f"rates {_listed(wanted)} in their place: {kept}, and no hole"


def _listed(rates: list[int] | tuple[int, ...]) -> str:
    return f"({', '.join(map(str, rates))})"
