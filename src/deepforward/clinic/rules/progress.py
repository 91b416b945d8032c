"""Training that goes nowhere, or less far than a shallower network's."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepforward.clinic.chance import guess
from deepforward.clinic.finding import Evidence, Finding

#: Progress above which nothing about a run calls for a cure.
ENOUGH = 0.9

#: Progress below which a run counts as not having begun to learn, and below which it has not come far.
NONE_YET, HALF = 0.05, 0.5

#: Steps before which a run that has not begun to learn may still do so, and epochs after which a loss that stands still tells.
EARLY_STEPS, FLAT_EPOCHS = 100, 3

#: Share of the chance loss: a fall from one epoch to the next below which the loss stands still.
FLAT = 0.01

#: Updates of the weights, in units of their size: lost in the rounding of float32; too short to lead anywhere.
LOST, SHORT = 1e-7, 2e-5

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
    """The weights do not move, or the training loss stays where guessing would be.

    Source: Bengio 2012, Practical recommendations for gradient-based training (a rate too small or too large, unscaled inputs).
    """
    for look in (_unmoved, _at_chance):
        if (seen := look(evidence)) is not None:
            cause, numbers, prescriptions = seen
            break
    else:
        return []
    return [
        Finding(
            rule="no-progress",
            layer="",
            severity=1.0 - (evidence.progress or 0.0),
            cause=cause,
            evidence=numbers,
            source="Bengio 2012, Practical recommendations for gradient-based training",
            prescriptions=prescriptions,
        )
    ]


#: What a person is told, the numbers behind it, and what to try.
Sight = tuple[str, dict[str, Any], tuple[str, ...]]


def _unmoved(evidence: Evidence) -> Sight | None:
    """Even the longest sampled update is lost in rounding."""
    if evidence.readings is None or "update_ratio" not in evidence.readings.values:
        return None
    ratios = evidence.readings.values["update_ratio"]
    measured = ratios[~np.isnan(ratios)]
    if not len(measured) or measured.max() > LOST:
        return None
    ratio = float(measured.max())
    cause = f"no step changes the weights of any layer by more than {ratio:.2g} of their size: too little to learn anything"
    zeros = [name for name in ("learning_rate", "clip") if evidence.recipe.get(name) == 0]
    if zeros:
        cause = f"no step changes any weight, for {' and '.join(zeros)} is 0"
    return cause, {"update_ratio": ratio}, ("learning-rate",) if evidence.descends else ("faster-learning",)


def _at_chance(evidence: Evidence) -> Sight | None:
    """The loss is where guessing would be, after enough steps or without falling."""
    progress, history, loss = evidence.progress, evidence.history, evidence.loss
    if progress is None or evidence.chance is None or loss is None or not history or progress > NONE_YET:
        return None
    if not evidence.descends:
        return _likelihood_at_chance(evidence, loss, evidence.chance)
    stands_still = len(history) >= FLAT_EPOCHS and history[-2].get("train/loss", loss) - loss < FLAT * evidence.chance
    if history[-1].get("step", 0) < EARLY_STEPS and not stands_still:
        return None
    guessed = guess(evidence.recipe.get("objective", ""))
    cause = f"the training loss is {loss:.3g} after {len(history)} epochs; guessing by {guessed} gives {evidence.chance:.3g}"
    numbers = {"progress": progress, "loss": loss, "chance": evidence.chance}
    if (ratio := longest_update(evidence)) is not None and ratio < SHORT:
        cause += f", for one step moves even the layer that moves most by {ratio:.2g} of its size: the steps are too short"
        return cause, numbers | {"update_ratio": ratio}, ("learning-rate",)
    return cause, numbers, ("learning-rate", "standardise-data", "batch-normalization", "activation-swap")


def longest_update(evidence: Evidence) -> float | None:
    """Update of the layer that moves most, at the middle one of the sampled steps."""
    if evidence.readings is None or "update_ratio" not in evidence.readings.values:
        return None
    ratios = evidence.readings.values["update_ratio"]
    steps = ratios[np.isfinite(ratios).any(1)]
    return float(np.median(np.nanmax(steps, axis=1))) if len(steps) else None


def _likelihood_at_chance(evidence: Evidence, loss: float, chance: float) -> Sight | None:
    """A model trained by samples, after enough steps, makes its data no likelier than independent units do."""
    if evidence.history[-1].get("step", 0) < EARLY_STEPS:
        return None
    cause = (
        f"the negative log-likelihood of validation examples is {loss:.3g} nats after {len(evidence.history)} epochs; "
        f"independent units with the rates of the data have {chance:.3g}"
    )
    return cause, {"progress": evidence.progress, "loss": loss, "chance": chance}, ("faster-learning", "slower-learning")
