"""Reading -> finding: the types that rules read and give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepforward.instruments import Smoothness
from deepforward.instruments.field_of_view import View
from deepforward.instruments.normalization_check import InputScale
from deepforward.instruments.phase import PhaseReading
from deepforward.instruments.rank_collapse import Representations
from deepforward.instruments.readings import Readings
from deepforward.layers.dilated_stages import DilatedStage


@dataclass(frozen=True)
class Evidence:
    """All that a rule may look at; plain values, so that rules are pure.

    Attributes:
        readings: What the instruments saw, or None if none ran.
        history: One mapping an epoch, as in history.jsonl (`epoch`, `train/loss`, `validation/loss`, `learning_rate`, ...).
        recipe: The complete recipe as a mapping, or {} for somebody's own loop.
        descends: Whether a healthy run lowers the loss.
        chance: Loss of a model that knows only how often each class occurs (nats for cross-entropy), or of independent units
            with the rates of the data (negative log-likelihood, nats an example); None if unknown.
        floor: Loss below which no model of such outputs or units can come, in the unit of `chance`.
        reached: What the run came to in the unit of `chance`, on validation examples, where the loss itself tells nothing;
            NaN if it diverged; None if it was not measured.
        input_scale: Root mean square of what the model is fed, after scaling, or None if unknown; initialisations assume 1.
        inputs: Scale of the inputs as the model gets them, feature by feature; None where it was not looked at.
        twin: The same facts for the shallower twin, if it was trained.
        phase: Where the network stands between order and chaos, and its gradient against mean field theory; of a run, the
            untrained network's. None where it was not looked at: a run that thrives has no need.
        representations: How alike the network makes different examples, layer by layer; likewise.
        smoothness: How fast its gradient turns along a short walk; likewise.
        dilations: What its stages of dilated convolutions touch; likewise.
        view: What its last maps see at once, and how large the objects are; likewise.
    """

    readings: Readings | None = None
    history: Sequence[Mapping[str, float]] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    descends: bool = True
    chance: float | None = None
    floor: float = 0.0
    reached: float | None = None
    input_scale: float | None = None
    inputs: InputScale | None = None
    twin: Evidence | None = None
    phase: PhaseReading | None = None
    representations: Representations | None = None
    smoothness: Smoothness | None = None
    dilations: tuple[DilatedStage, ...] | None = None
    view: View | None = None

    @property
    def loss(self) -> float | None:
        """What is held against chance: the training loss of the last epoch or, if that does not descend, `reached`."""
        if not self.descends:
            return self.reached
        return self.history[-1].get("train/loss") if self.history else None

    @property
    def span(self) -> float | None:
        """All that there is to learn: chance - floor, or None where it is unknown."""
        return self.chance - self.floor if self.chance and self.chance > self.floor else None

    @property
    def progress(self) -> float | None:
        """Share of what there is to learn that training learnt, 1 - (loss - floor) / (chance - floor), in [0, 1].

        0 is what knowing the class frequencies (the rates of the units) gives, and what a loss that is not finite counts as; 1
        is a loss at its floor, which is zero in supervised learning. None where it cannot be known: no history, no chance
        level, or an objective whose loss does not descend and of which nothing else was measured.
        """
        if self.loss is None or self.span is None:
            return None
        return min(1.0, max(0.0, 1.0 - (self.loss - self.floor) / self.span)) if math.isfinite(self.loss) else 0.0


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
        change: The one change to make, with its numbers; "" where that is the first prescription as its card says it.
    """

    rule: str
    layer: str
    severity: float
    cause: str
    evidence: Mapping[str, Any]
    source: str
    prescriptions: tuple[str, ...] = ()
    change: str = ""


#: A rule: pure, evidence in, findings out (no finding or one; more only for separate causes).
Rule = Callable[[Evidence], list[Finding]]
