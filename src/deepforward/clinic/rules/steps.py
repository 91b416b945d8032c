"""Steps that are too long: what a network that began in health shows when its learning rate is too high."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.rules.progress import HALF, SHORT, longest_update, thriving
from deepforward.clinic.rules.units import MOST, share_of_layers
from deepforward.theory import largest_stable_rate

#: Share of the chance loss by which a loss must rise, from one epoch to the next or above chance at the end, to tell.
JUMP = 0.25

#: Update of the weights, in units of their size, of the middle layer at the middle step. Healthy runs stay below a tenth of it.
LONG = 0.05


def long_steps(evidence: Evidence) -> list[Finding]:
    """The loss rises, units that were alive at first are driven out of reach, or updates are as long as the weights allow.

    Source: Bengio 2012 (a rate too large); Santurkar, Tsipras, Ilyas, Madry 2018 (effective smoothness, which bounds it).
    """
    if not evidence.descends or thriving(evidence):
        return []
    for look in (_jumping, _driven_out, _long_updates):
        if (seen := look(evidence)) is not None:
            cause, layer, numbers = seen
            limit = stable_rate(evidence)
            return [
                Finding(
                    rule="long-steps",
                    layer=layer,
                    severity=1.0 - (evidence.progress or 0.0),
                    cause=f"{cause}: the steps are too long{_against(limit, evidence)}",
                    evidence=dict(numbers) | ({} if limit is None else {"stable_rate": limit}),
                    source="Bengio 2012, Practical recommendations for gradient-based training; Santurkar et al. 2018",
                    prescriptions=("learning-rate", "gradient-clipping", "batch-normalization"),
                )
            ]
    return []


def stable_rate(evidence: Evidence) -> float | None:
    """The largest rate at which every step of the measured walk is stable, for the recipe's momentum.

    Source: Polyak 1964; Zhang, He, Sra, Jadbabaie 2020 (smoothness along the step).
    """
    if evidence.smoothness is None or not evidence.smoothness.smoothness or evidence.recipe.get("optimizer") != "sgd":
        return None
    options = evidence.recipe.get("optimizer_options") or {}
    steepest = max(evidence.smoothness.smoothness)
    return largest_stable_rate(steepest, options.get("momentum", 0.0), nesterov=bool(options.get("nesterov", False)))


def _against(limit: float | None, evidence: Evidence) -> str:
    rate = evidence.recipe.get("learning_rate")
    if limit is None or not isinstance(rate, (int, float)) or rate <= limit:
        return ""
    return f"; the rate is {rate:.3g}, and from {limit:.2g} on a step may overshoot where the gradient turns fastest at first"


#: What is seen, the layer where it begins or "", and the numbers behind it.
Sight = tuple[str, str, Mapping[str, Any]]


def _jumping(evidence: Evidence) -> Sight | None:
    """From one epoch to the next the loss loses much of what it had gained, or it ends far above chance."""
    if evidence.chance is None or evidence.progress is None:
        return None
    losses = [row["train/loss"] for row in evidence.history if "train/loss" in row]
    rises = [(after - before, before, after) for before, after in itertools.pairwise(losses)]
    rise, before, after = max(rises, default=(0.0, 0.0, 0.0))
    if rise > JUMP * evidence.chance:
        numbers = {"rise": rise / evidence.chance, "progress": evidence.progress}
        return f"the training loss jumps, from {before:.3g} in one epoch to {after:.3g} in the next", "", numbers
    moves = (ratio := longest_update(evidence)) is None or ratio >= SHORT  # else it began there, and has not come down yet
    if moves and len(losses) > 1 and losses[-1] > (1 + JUMP) * evidence.chance:
        numbers = {"rise": losses[-1] / evidence.chance - 1, "progress": evidence.progress}
        return f"the training loss ends at {losses[-1]:.3g}, though guessing gives {evidence.chance:.3g}", "", numbers
    return None


def _driven_out(evidence: Evidence) -> Sight | None:
    """Units that pass a gradient at the first step pass none at the end."""
    for statistic, state in (("dead_share", "give zero for every example"), ("saturated_share", "sit on their flat ends")):
        first, late = share_of_layers(evidence, statistic)
        ill = np.flatnonzero((late > MOST) & ~(first > MOST))
        if len(ill):
            assert evidence.readings is not None
            worst = ill[0]
            layer = evidence.readings.layers[worst]
            words = f"{late[worst]:.0%} of the units of {layer} {state} in the end, {first[worst]:.0%} at the first step"
            return words, layer, {"share": float(late[worst]), "share_at_first": float(first[worst])}
    return None


def _long_updates(evidence: Evidence) -> Sight | None:
    """Single steps change the weights by a large part of their size, and little is learnt."""
    if evidence.readings is None or "update_ratio" not in evidence.readings.values:
        return None
    if evidence.progress is None or evidence.progress > HALF:
        return None
    ratios = evidence.readings.values["update_ratio"]
    steps = ratios[np.isfinite(ratios).any(1)]
    middle = float(np.median(np.nanmedian(steps, axis=1))) if len(steps) else 0.0
    if middle < LONG:
        return None
    return f"one step changes the weights of the middle layer by {middle:.0%} of their size", "", {"update_ratio": middle}
