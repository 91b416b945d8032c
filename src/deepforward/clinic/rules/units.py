"""Units that carry no gradient because their activation function is flat where they work."""

from __future__ import annotations

import numpy as np

from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.rules.progress import thriving
from deepforward.instruments.readings import Readings

#: A gradient far above the smallest float32: below it, one that is exactly zero may have shrunk to that.
ALIVE = 1e-30

#: Share of a layer's units that are dead or saturated in an ill layer. Chance gives half: when all inputs have become alike, a
#: unit is as likely off for all of them as on.
MOST = 0.9

#: Biases that are so far above those at the edge, in units of the pre-activation, or weights so many times, make units flat.
FAR_BIAS, FAR_WEIGHTS = 1.0, 2.0

_AFFINE = frozenset({"Linear", "Conv1d", "Conv2d", "Conv3d"})


def dead_units(evidence: Evidence) -> list[Finding]:
    """Nearly all units of some layer give zero for every example, or let no gradient pass at all, from the first step on.

    Units that die later were driven there by steps too long, which `long_steps` says.

    Source: Maas, Hannun, Ng 2013; Glorot, Bordes, Bengio 2011.
    """
    source = "Glorot, Bordes, Bengio 2011; Maas, Hannun, Ng 2013"
    prescriptions = ("batch-normalization", "learning-rate", "critical-initialization", "activation-swap")
    return _flat_units(
        evidence,
        rule="dead-units",
        statistic="dead_share",
        state="give zero for every example and receive no gradient",
        source=source,
        prescriptions=prescriptions,
    ) or _cut_off(evidence, source, prescriptions)


def saturation(evidence: Evidence) -> list[Finding]:
    """Nearly all activations of some layer sit on the flat ends of a squashing function, from the first step to the last.

    Source: Glorot and Bengio 2010; LeCun, Bottou, Orr, Müller 1998, Efficient backprop.
    """
    return _flat_units(
        evidence,
        rule="saturation",
        statistic="saturated_share",
        state="sit on the flat ends of their activation function and pass hardly any gradient",
        source="LeCun, Bottou, Orr, Müller 1998; Glorot and Bengio 2010",
        prescriptions=("critical-initialization", "batch-normalization", "learning-rate", "activation-swap"),
    )


def _flat_units(
    evidence: Evidence, *, rule: str, statistic: str, state: str, source: str, prescriptions: tuple[str, ...]
) -> list[Finding]:
    readings = evidence.readings
    if readings is None or not readings.steps or statistic not in readings.values or thriving(evidence):
        return []
    first, share = share_of_layers(evidence, statistic)
    ill = np.flatnonzero((first > MOST) & (share > MOST))
    if not len(ill):
        return []
    worst = ill[0]  # in the order of the forward pass: what comes after inherits
    progress = evidence.progress
    return [
        Finding(
            rule=rule,
            layer=readings.layers[worst],
            severity=float(share[worst]) if progress is None else 1.0 - progress,
            cause=f"{share[worst]:.0%} of the units of {readings.layers[worst]} {state}; "
            f"{len(ill)} of {np.isfinite(share).sum()} such layers are affected",
            evidence={"share": float(share[worst]), "layers": [readings.layers[i] for i in ill]},
            source=source,
            prescriptions=prescriptions,
            change=_redraw(evidence, int(worst)),
        )
    ]


def _redraw(evidence: Evidence, at: int) -> str:
    """What to draw anew in the affine layer before a layer of activations, if its weights or biases are far from the edge."""
    readings, phase = evidence.readings, evidence.phase
    if readings is None or phase is None or phase.critical_sigma_w is None or phase.critical_sigma_b is None:
        return ""
    before = [name for name, kind in zip(readings.layers[:at], readings.kinds[:at], strict=True) if kind in _AFFINE]
    found = next((layer for layer in phase.layers if before and layer.key == before[-1]), None)
    if found is None or found.sigma_w is None or found.sigma_b is None:
        return ""
    changes = []
    if found.sigma_b > phase.critical_sigma_b + FAR_BIAS:
        changes.append(f"the biases at sigma_b {found.sigma_b:.3g} -> {phase.critical_sigma_b:.3g}")
    if found.sigma_w > FAR_WEIGHTS * phase.critical_sigma_w:
        changes.append(f"the weights at sigma_w {found.sigma_w:.3g} -> {phase.critical_sigma_w:.3g}")
    return f"draw {' and '.join(changes)} in {found.key.removesuffix('#0')}" if changes else ""


def _cut_off(evidence: Evidence, source: str, prescriptions: tuple[str, ...]) -> list[Finding]:
    """A gradient that is exactly zero from one layer down to the input: dead units that no module shows (`torch.relu`)."""
    readings = evidence.readings
    if readings is None or not readings.steps or "gradient_rms" not in readings.values or thriving(evidence):
        return []
    gradient = _late_median(readings, "gradient_rms")
    first = readings.values["gradient_rms"][0]
    reached = np.flatnonzero(np.isfinite(gradient))
    without = int(np.cumprod((gradient[reached] == 0) & (first[reached] == 0)).sum())
    if not 0 < without < len(reached) or gradient[reached[without]] < ALIVE:
        return []
    if "saturated_share" in readings.values and np.isfinite(readings.values["saturated_share"][:, reached[without]]).any():
        return []  # a squashing function, which `saturation` judges
    layer, above = (readings.layers[reached[i]] for i in (without - 1, without))
    return [
        Finding(
            rule="dead-units",
            layer=layer,
            severity=1.0 - (evidence.progress or 0.0),
            cause=f"the gradient is exactly zero at {layer} and below, though it reaches {above}: what lies between passes "
            "none, as when no unit of a rectifier ever fires",
            evidence={"layers": [readings.layers[i] for i in reached[:without]]},
            source=source,
            prescriptions=prescriptions,
        )
    ]


def share_of_layers(evidence: Evidence, statistic: str) -> tuple[np.ndarray, np.ndarray]:
    """A share of each layer at the first sampled step and late in training (see `_late_median`); NaN where there is none."""
    readings = evidence.readings
    if readings is None or not readings.steps or statistic not in readings.values:
        return np.empty(0), np.empty(0)
    return readings.values[statistic][0], _late_median(readings, statistic)


def _late_median(readings: Readings, statistic: str) -> np.ndarray:
    """Median of each layer over the samples of the second half of the steps; NaN for a layer that has none.

    What is dead at first may come alive; what is dead late stays so.
    """
    late = np.array(readings.steps) * 2 >= readings.steps[-1]
    values = readings.values[statistic][late]
    result = np.full(values.shape[1], np.nan)
    read = np.isfinite(values).any(0)
    result[read] = np.nanmedian(values[:, read], axis=0)
    return result
