"""What became of a claim."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from deepforward.catalogue import Card
from deepforward.lecture.claim import Check, Claim, Table


@dataclass(frozen=True)
class Outcome:
    """A claim with its measurements and what they say of it.

    Attributes:
        card: The claim's card.
        claim: The claim.
        table: What was measured.
        checks: The table's numbers against their bounds.
        seconds: Time that the measurement took, when it was made.
    """

    card: Card
    claim: Claim
    table: Table
    checks: tuple[Check, ...]
    seconds: float

    @property
    def status(self) -> str:
        """`fails` if a check fails, else `corrected` if the lecture's statement had to be, else `holds`."""
        if not all(check.holds for check in self.checks):
            return "fails"
        return "corrected" if self.claim.correction else "holds"

    def record(self) -> dict[str, Any]:
        """The outcome as plain JSON values; null stands for an open bound, and for a number that is not finite."""
        return {
            "claim": self.card.name,
            **{key: self.card.details[key] for key in ("items", "references", "errata")},
            "status": self.status,
            "checks": [
                {
                    "name": check.name,
                    **{key: _finite(getattr(check, key)) for key in ("value", "low", "high")},
                    "unit": check.unit,
                    "basis": check.basis,
                }
                for check in self.checks
            ],
            "seconds": round(self.seconds, 3),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
