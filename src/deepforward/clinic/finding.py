"""Reading -> finding: the types that rules read and give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepforward.instruments.readings import Readings


@dataclass(frozen=True)
class Evidence:
    """All that a rule may look at; plain values, so that rules are pure.

    Attributes:
        readings: What the instruments saw, or None if none ran.
        history: One mapping an epoch, as in history.jsonl (`epoch`, `train/loss`, `validation/loss`, `learning_rate`, ...).
        recipe: The complete recipe as a mapping, or {} for somebody's own loop.
        descends: Whether a healthy run lowers the loss.
        chance: Loss of a model that knows only how often each class occurs (nats for cross-entropy), or None if unknown.
        input_scale: Root mean square of what the model is fed, after scaling, or None if unknown; initialisations assume 1.
        twin: The same facts for the shallower twin, if it was trained.
    """

    readings: Readings | None = None
    history: Sequence[Mapping[str, float]] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    descends: bool = True
    chance: float | None = None
    input_scale: float | None = None
    twin: Evidence | None = None

    @property
    def progress(self) -> float | None:
        """Share of the chance loss that training removed, 1 - loss / chance of the last epoch, in [0, 1].

        0 is what knowing the class frequencies gives, and what a loss that is not finite counts as; 1 is a loss of zero. None
        where it cannot be known: no history, no chance level, or an objective whose loss does not descend.
        """
        if not self.history or not self.chance or not self.descends or "train/loss" not in self.history[-1]:
            return None
        loss = self.history[-1]["train/loss"]
        return min(1.0, max(0.0, 1.0 - loss / self.chance)) if math.isfinite(loss) else 0.0


@dataclass(frozen=True)
class Finding:
    """One cause, with its origin; never one per tensor.

    Attributes:
        rule: Name of the rule's card.
        layer: The layer where it begins (`name#call`), "" for the whole run.
        severity: In [0, 1]; 1 means that nothing can be learnt.
        cause: One sentence for a person, with the numbers.
        evidence: The numbers behind it (`rate_per_layer`, `decades`, `share`, `step`, ...), scale-free where possible.
        source: Citation of the theory that the rule rests on.
        prescriptions: Names of cards to try, most promising first.
    """

    rule: str
    layer: str
    severity: float
    cause: str
    evidence: Mapping[str, Any]
    source: str
    prescriptions: tuple[str, ...] = ()


#: A rule: pure, evidence in, findings out (no finding or one; more only for separate causes).
Rule = Callable[[Evidence], list[Finding]]
