"""The lecture's claims, one a file, as experiments that are measured, checked and drawn."""

from deepforward.lecture.claim import Check, Claim, Table
from deepforward.lecture.outcome import Outcome
from deepforward.lecture.run import run_claims

__all__ = ["Check", "Claim", "Outcome", "Table", "run_claims"]
