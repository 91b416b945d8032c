"""Evidence -> diagnosis: all rules, and from their findings the causes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from deepforward import catalogue
from deepforward.clinic.evidence import evidence_of, probe_module
from deepforward.clinic.finding import Evidence, Finding
from deepforward.data import Dataset
from deepforward.engine import Run
from deepforward.errors import InvalidOption
from deepforward.instruments import Probe, Readings


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, most severe first; empty if nothing is.

    Attributes:
        findings: One for each cause.
        evidence: What they were concluded from.
    """

    findings: tuple[Finding, ...]
    evidence: Evidence

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of the rules that found something."""
        return tuple(finding.rule for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The stable form that is written as JSON."""
        return {"findings": [asdict(finding) for finding in self.findings], "verdicts": []}

    def to_json(self) -> str:
        """`to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        if not self.findings:
            return f"no illness found{_basis(self.evidence)}"
        return "\n".join(_paragraph(finding) for finding in self.findings)


def conclude(evidence: Evidence) -> Diagnosis:
    """Ask every rule, and drop a finding that another one explains (`explains` on the rules' cards)."""
    found = [finding for card in catalogue.cards("rules") for finding in card.load()(evidence)]
    explained = {rule for finding in found for rule in catalogue.card("rules", finding.rule).details.get("explains", ())}
    causes = [finding for finding in found if finding.rule not in explained]
    return Diagnosis(tuple(sorted(causes, key=lambda finding: -finding.severity)), evidence)


def diagnose(
    patient: Run | nn.Module | Probe | Readings,
    data: str | Dataset | tuple[Tensor, Tensor] | None = None,
    *,
    objective: str = "cross-entropy",
    twin: Run | Evidence | None = None,
) -> Diagnosis:
    """Say what is wrong with a run, a module, or what a Probe saw in somebody's own loop.

    Args:
        patient: A run (its saved readings and history are read, and the findings are written into its result.json); any module
            (a copy of it is run forward and backward over a few batches of `data`); or a Probe, or its readings.
        data: For a module: a source specification, a Dataset, or (inputs, targets).
        objective: For a module: name of the objective's card.
        twin: For a run: its shallower twin, without which degradation cannot be told.

    Returns:
        The findings, one for each cause; printing it shows them in words.

    Raises:
        InvalidOption: A module without data.
        WriteFailed: The findings could not be written into the run folder.
    """
    if isinstance(patient, Run):
        beside = evidence_of(twin) if isinstance(twin, Run) else twin
        diagnosis = conclude(evidence_of(patient, beside))
        patient.update_result(findings=diagnosis.to_dict()["findings"])
        return diagnosis
    if isinstance(patient, nn.Module):
        if data is None:
            raise InvalidOption(
                f"got {type(patient).__name__} without data; expected a source such as 'digits', or (inputs, targets)"
            )
        return conclude(probe_module(patient, data, objective=objective))
    return conclude(Evidence(readings=patient if isinstance(patient, Readings) else patient.readings()))


def _paragraph(finding: Finding) -> str:
    lines = [
        f"{finding.rule}{f' from {finding.layer}' if finding.layer else ''} (severity {finding.severity:.2f})",
        finding.cause,
    ]
    if finding.prescriptions:
        lines.append(f"try: {', '.join(finding.prescriptions)}")
    return "\n  ".join([*lines, f"source: {finding.source}"])


def _basis(evidence: Evidence) -> str:
    seen: Sequence[str] = [
        f"{len(evidence.readings.steps)} sampled steps of {len(evidence.readings.layers)} layers" if evidence.readings else "",
        f"{len(evidence.history)} epochs" if evidence.history else "",
    ]
    return f" in {' and '.join(filter(None, seen))}" if any(seen) else ", but there was nothing to look at"
