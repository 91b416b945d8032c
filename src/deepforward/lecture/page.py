"""Outcomes -> one page: verdict first, then each claim with its checks and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from deepforward.lecture.outcome import Outcome
from deepforward.report.blocks import Block, Heading, Table, Text, Tone, Verdict
from deepforward.report.page import Page
from deepforward.report.plain import counted

TONES: dict[str, Tone] = {"holds": "good", "corrected": "good", "fails": "bad"}


def page(outcomes: Sequence[Outcome], budget: str, seed: int) -> Page:
    """The lecture's claims, checked."""
    blocks: list[Block] = [_summary(outcomes)]
    for outcome in outcomes:
        blocks += _section(outcome)
    return Page("The lecture's claims, checked", f"budget {budget}, seed {seed}", blocks)


def _summary(outcomes: Sequence[Outcome]) -> Verdict:
    count = Counter(outcome.status for outcome in outcomes)
    failed = [outcome.card.name for outcome in outcomes if outcome.status == "fails"]
    held = f"{len(outcomes) - len(failed)} of {counted(len(outcomes), 'claim')} measured here hold"
    sentence = f"{held}, {count['corrected']} once corrected." if count["corrected"] else f"{held}."
    if failed:
        return Verdict("fails", f"{sentence} What fails: {', '.join(failed)}.", dict(count), "bad")
    return Verdict("holds", sentence, dict(count), "good")


def _section(outcome: Outcome) -> list[Block]:
    rows = [["yes" if c.holds else "NO", c.name, c.value, c.low, c.high, c.unit, c.basis] for c in outcome.checks]
    items = ", ".join(map(str, outcome.card.details["items"]))
    blocks: list[Block] = [
        Heading(outcome.card.summary[0].upper() + outcome.card.summary[1:]),
        Verdict(outcome.status, outcome.claim.says, {"checks": len(rows), "seconds": outcome.seconds}, TONES[outcome.status]),
    ]
    if outcome.claim.correction:
        blocks.append(Text(f"Correction of the lecture: {outcome.claim.correction}"))
    table = Table(["holds", "measured", "value", "at least", "at most", "unit", "basis"], rows)
    return [*blocks, table, *outcome.claim.draw(outcome.table), Text(f"Item {items}. {outcome.card.source}.")]
