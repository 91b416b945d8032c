"""Models that learn from their own samples, and how that goes wrong: chains, hidden units, held-out examples, the step."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.rules.progress import thriving
from deepforward.clinic.rules.steps import JUMP

#: Share of the distance between chains that a chain has moved after 20 sweeps, below which it stands still. A chain that
#: forgets at the rate exp(-sweeps / tau) has tau = 20 / -ln(1 - share): 90 sweeps here, as many steps of persistent learning.
STILL = 0.2

#: Distance between chains, in units of that between examples, below which they are all in one place.
ALIKE = 0.5

#: The same share, above which chains run together. Of a reversible chain that has settled in a model that stands still at most
#: 1 is to be expected: given the state halfway, the states before and after are two independent draws of one distribution, and
#: two such draws are in the mean no farther apart than two of the mixture of all those distributions, which is what chains are.
#: Chains that have not settled, such as those that converge to one place, may read far more.
CARRIED = 1.25

#: Share of the hidden units that are dead or always on in an ill layer: most of them.
IDLE = 0.5

#: Share of what there is to learn that may be learnt of the training examples alone; twice what makes a cure worth its while.
MEMORISED = 0.2


def stuck_chains(evidence: Evidence) -> list[Finding]:
    """Persistent chains stand still, or are all in one place, late in training: they no longer show what the model believes.

    Learning then raises the energy where the chains are and nowhere else, and the likelihood falls again after a rise.
    Chains that start at the data in every step need not mix, and are not judged.

    Source: Fischer and Igel 2010, Empirical analysis of the divergence of Gibbs sampling based learning algorithms for
    restricted Boltzmann machines; Tieleman 2008; Desjardins et al. 2010.
    """
    mixing, diversity = _late(evidence, "chains/mixing"), _late(evidence, "chains/diversity")
    if mixing is None or diversity is None or not _persistent(evidence) or thriving(evidence):
        return []
    if mixing >= STILL and (diversity >= ALIKE or mixing > CARRIED):
        return []
    where = (
        f"move in 20 sweeps only {mixing:.0%} of the distance between them"
        if mixing < STILL
        else f"are only {diversity:.0%} as far apart as examples are"
    )
    return [
        Finding(
            rule="stuck-chains",
            layer="",
            severity=_severity(evidence, 1.0 - min(1.0, mixing, diversity)),
            cause=f"the persistent chains {where} (late in training, as a median): what they show of the model is old",
            evidence={"mixing": mixing, "diversity": diversity},
            source="Fischer and Igel 2010; Tieleman 2008; Desjardins et al. 2010",
            prescriptions=("slower-learning", "parallel-tempering", "more-sweeps", "weight-decay", "decaying-rate"),
        )
    ]


def idle_units(evidence: Evidence) -> list[Finding]:
    """Most hidden units have a mean activity below 0.01, or one above 0.99, over training examples, late in training.

    The mean is that of the probability of being on, over the first examples of the training split that the objective watches,
    at most 500.

    Source: Hinton 2012, A practical guide to training restricted Boltzmann machines, sections 8 and 11; Melchior, Fischer,
    Wiskott 2016 (centring).
    """
    dead, always_on = _late(evidence, "units/dead"), _late(evidence, "units/always_on")
    if dead is None or always_on is None or dead + always_on <= IDLE or thriving(evidence):
        return []
    return [
        Finding(
            rule="idle-units",
            layer="",
            severity=_severity(evidence, min(1.0, dead + always_on)),
            cause=f"{dead:.0%} of the hidden units are on with a mean probability below 1% and {always_on:.0%} above 99%, over "
            "at most 500 training examples: they hardly tell examples apart",
            evidence={"dead": dead, "always_on": always_on},
            source="Hinton 2012, sections 8 and 11; Melchior, Fischer, Wiskott 2016",
            prescriptions=("centring", "small-weights", "sparsity-target", "slower-learning"),
        )
    ]


def overfitting(evidence: Evidence) -> list[Finding]:
    """Training examples have become much likelier than validation examples, by more than both have gained.

    The partition function cancels out of a difference of free energies, F(validation) - F(training) = log p(training) -
    log p(validation): that gap, less what it was after the first epoch, is what was learnt of the training examples alone. It
    is judged in units of all there is to learn.

    Source: Hinton 2012, A practical guide to training restricted Boltzmann machines, section 6.
    """
    gaps = _gaps(evidence)
    if len(gaps) < 2 or evidence.span is None or thriving(evidence):
        return []
    gap = statistics.median(gaps[len(gaps) // 2 :])
    memorised, progress = (gap - gaps[0]) / evidence.span, evidence.progress
    if memorised <= max(MEMORISED, progress or 0.0):
        return []
    return [
        Finding(
            rule="overfitting",
            layer="",
            severity=_severity(evidence, min(1.0, memorised)),
            cause=f"training examples are {gap:.3g} nats likelier than validation examples, {gaps[0]:.2g} after the first "
            f"epoch: {memorised:.0%} of what there is to learn was learnt of them alone"
            + ("" if progress is None else f", {progress:.0%} of the others"),
            evidence={"memorised": memorised, "gap": gap, "first_gap": gaps[0]},
            source="Hinton 2012, A practical guide to training restricted Boltzmann machines, section 6",
            prescriptions=("weight-decay", "fewer-epochs", "fewer-hidden-units"),
        )
    ]


def unstable_learning(evidence: Evidence) -> list[Finding]:
    """Late in training the steps are longer than samples can follow.

    Either persistent chains move farther in 20 sweeps than they are apart, which those that have settled in a model that stands
    still do not in the mean (see `CARRIED`): they run together to where the weights have moved. Or each unit given all others
    is foretold worse than from its rate alone.

    Source: Hinton 2012, A practical guide to training restricted Boltzmann machines, section 7; Tieleman and Hinton 2009, Using
    fast weights to improve persistent contrastive divergence.
    """
    if thriving(evidence):
        return []
    mixing, told = _late(evidence, "chains/mixing"), _late(evidence, "validation/pseudo_log_likelihood")
    numbers: Mapping[str, float]
    if mixing is not None and mixing > CARRIED and _persistent(evidence):
        cause = f"the chains move in 20 sweeps {mixing:.3g} times the distance between them: all run after the weights"
        severity, numbers = min(1.0, mixing - 1.0), {"mixing": mixing}
    elif told is not None and evidence.chance and evidence.span and -told - evidence.chance > JUMP * evidence.span:
        cause = (
            f"the pseudo-likelihood of validation examples is {told:.3g} nats; units that know only their rates have "
            f"{-evidence.chance:.3g}: the weights overshoot"
        )
        severity, numbers = 1.0, {"excess": (-told - evidence.chance) / evidence.span}
    else:
        return []
    return [
        Finding(
            rule="unstable-learning",
            layer="",
            severity=_severity(evidence, severity),
            cause=cause,
            evidence=numbers,
            source="Hinton 2012, section 7; Tieleman and Hinton 2009",
            prescriptions=("slower-learning", "decaying-rate", "weight-decay"),
        )
    ]


def _late(evidence: Evidence, column: str) -> float | None:
    """Median of a column over the second half of the epochs; what is ill at first may recover."""
    rows = evidence.history[len(evidence.history) // 2 :]
    values = [row[column] for row in rows if math.isfinite(row.get(column, math.nan))]
    return statistics.median(values) if values else None


def _gaps(evidence: Evidence) -> list[float]:
    """By how many nats training examples are likelier than validation examples, epoch by epoch."""
    pairs = [(row.get("validation/free_energy"), row.get("train/free_energy")) for row in evidence.history]
    gaps = [held_out - seen for held_out, seen in pairs if held_out is not None and seen is not None]
    return [gap for gap in gaps if math.isfinite(gap)]


def _persistent(evidence: Evidence) -> bool:
    """Whether chains go on from step to step; where nothing is known, those that were watched are taken to."""
    return bool(evidence.recipe.get("objective_options", {}).get("persistent", not evidence.recipe))


def _severity(evidence: Evidence, otherwise: float) -> float:
    return otherwise if evidence.progress is None else 1.0 - evidence.progress
