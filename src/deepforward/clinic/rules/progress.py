"""Training that goes nowhere, or less far than a shallower network's."""

from __future__ import annotations

from deepforward.clinic.finding import Evidence, Finding

#: Progress above which nothing about a run calls for a cure.
ENOUGH = 0.9

#: Progress below which a run counts as not having begun to learn.
NONE_YET = 0.05

#: Progress that a deeper network must lack of its shallower twin's to count as degraded; three times the spread between seeds.
LAG = 0.2


def thriving(evidence: Evidence) -> bool:
    """Whether training is known to remove most of the chance loss, so that odd readings are no illness."""
    return evidence.progress is not None and evidence.progress >= ENOUGH


def degradation(evidence: Evidence) -> list[Finding]:
    """The deeper network fits its training data worse than its shallower twin, though it could copy it.

    Source: He, Zhang, Ren, Sun 2016, section 1 and figure 1.
    """
    own, twin = evidence.progress, evidence.twin.progress if evidence.twin is not None else None
    if own is None or twin is None or twin - own < LAG:
        return []
    return [
        Finding(
            rule="degradation",
            layer="",
            severity=1.0 - own,
            cause=f"with the same recipe the deeper network removes {own:.0%} of the chance loss in training, "
            f"its shallower twin {twin:.0%}: the added layers cannot even learn to pass their input on",
            evidence={"progress": own, "twin_progress": twin, "lag": twin - own},
            source="He, Zhang, Ren, Sun 2016",
            prescriptions=("residual-connections", "batch-normalization", "learning-rate"),
        )
    ]


def no_progress(evidence: Evidence) -> list[Finding]:
    """The training loss ends where guessing by class frequency would.

    Source: Bengio 2012, Practical recommendations for gradient-based training (a rate too small or too large, unscaled inputs).
    """
    progress = evidence.progress
    if progress is None or progress > NONE_YET:
        return []
    first = ("learning-rate", "standardise-data") if not unscaled(evidence) else ("standardise-data", "learning-rate")
    loss = evidence.history[-1]["train/loss"]
    return [
        Finding(
            rule="no-progress",
            layer="",
            severity=1.0 - progress,
            cause=f"the training loss is {loss:.3g} after {len(evidence.history)} epochs; guessing by class frequency gives "
            f"{evidence.chance:.3g}, and the gradient reaches every layer",
            evidence={"progress": progress, "loss": loss, "chance": evidence.chance},
            source="Bengio 2012, Practical recommendations for gradient-based training",
            prescriptions=(*first, "batch-normalization", "activation-swap"),
        )
    ]


def unscaled(evidence: Evidence) -> bool:
    """Whether the model is fed numbers whose root mean square is far from the 1 that initialisations assume."""
    return evidence.input_scale is not None and not 0.1 < evidence.input_scale < 3.0
