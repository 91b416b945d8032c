"""Reading -> finding: the types that rules read and give."""

from __future__ import annotations

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
        depth: Number of layers with weights on the longest path of the forward pass.
        descends: Whether a healthy run lowers the loss.
        chance: Loss of a model that knows only the class frequencies (nats for cross-entropy), or None.
        input_statistics: `mean`, `std`, `min`, `max`, `feature_std_ratio` of what the model is fed (after scaling).
        twin: The same facts for the shallower twin, if it was trained.
        reference: For a rate too high: what the finder measured (`learning_rate`, `gradient_norm_quantiles`), if it ran.
    """

    readings: Readings | None = None
    history: Sequence[Mapping[str, float]] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    depth: int = 0
    descends: bool = True
    chance: float | None = None
    input_statistics: Mapping[str, float] = field(default_factory=dict)
    twin: Evidence | None = None
    reference: Mapping[str, Any] = field(default_factory=dict)


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
