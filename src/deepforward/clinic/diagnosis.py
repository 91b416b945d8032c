"""Evidence -> diagnosis: all rules, and from their findings the causes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from deepforward import catalogue
from deepforward.clinic.case import Loss, case_of
from deepforward.clinic.close_look import CloseLook, look_closely
from deepforward.clinic.diagnosis_page import diagnosis_page
from deepforward.clinic.evidence import evidence_of, evidence_of_case
from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.prescriptions import forestalled
from deepforward.engine import Run
from deepforward.errors import InvalidOption
from deepforward.instruments import Probe, Readings
from deepforward.report import write
from deepforward.report.plain import counted


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
            basis = _basis(self.evidence)
            return (
                f"no illness found in {basis}" if basis else "nothing was seen yet: no step was sampled and no epoch has ended"
            )
        return "\n".join(_paragraph(finding) for finding in self.findings)


def conclude(evidence: Evidence) -> Diagnosis:
    """Ask every rule, and drop a finding that another one explains (`explains` on the rules' cards)."""
    found = [finding for card in catalogue.cards("rules") for finding in card.load()(evidence)]
    explained = {rule for finding in found for rule in catalogue.card("rules", finding.rule).details.get("explains", ())}
    causes = [_made_practical(finding, evidence) for finding in found if finding.rule not in explained]
    return Diagnosis(tuple(sorted(causes, key=lambda finding: -finding.severity)), evidence)


def _made_practical(finding: Finding, evidence: Evidence) -> Finding:
    """Without what the recipe has already, and with the one change to make."""
    kept = tuple(name for name in finding.prescriptions if not forestalled(name, evidence.recipe))
    change = finding.change or (catalogue.card("prescriptions", kept[0]).summary if kept else "")
    return replace(finding, prescriptions=kept, change=change)


def diagnose(
    patient: Run | str | Path | nn.Module | Probe | Readings,
    data: Any = None,
    *,
    objective: str | Loss = "cross-entropy",
    scaling: str = "standardise",
    twin: Run | Evidence | None = None,
    report: str | Path | None = None,
) -> Diagnosis:
    """Say what is wrong with a run, a module, or what a Probe saw in somebody's own loop.

    Args:
        patient: A run or its folder (its saved readings and history are read, and once it has ended the findings are written
            into its result.json); any module (it is run forward and backward over a few batches of `data`, and left as found);
            or a Probe, or its readings.
        data: For a module: a source specification, a Dataset, or (inputs, targets) as tensors, arrays or lists; with a callable
            objective also any iterable of batches that it takes, such as a DataLoader.
        objective: For a module: name of the objective's card, or a callable (model, batch) -> scalar for a module that takes or
            gives more than one tensor.
        scaling: For a module: how the inputs of a source or Dataset are scaled; a pair is fed as it is.
        twin: For a run: its shallower twin, without which degradation cannot be told.
        report: File to write a page to: of a run its report, of a module what was found and, beside theory, what passes of its
            own show; of a Probe what it read.

    Returns:
        The findings, one for each cause; printing it shows them in words.

    Raises:
        InvalidOption: A module without data, or something else than the above.
        InvalidData, InvalidModel, ShapeError: The module and the data do not fit each other, or the module raises.
        RunMismatch: The folder holds no run.
        WriteFailed: The findings could not be written into the run folder, or the page to its file.
    """
    if isinstance(patient, (str, Path)):
        patient = Run.open(patient)
    if isinstance(patient, Run):
        beside = evidence_of(twin) if isinstance(twin, Run) else twin
        diagnosis = conclude(evidence_of(patient, beside))
        record(patient, findings=diagnosis.to_dict()["findings"])
        if report is not None:
            patient.report(report)
        return diagnosis
    if isinstance(patient, nn.Module):
        if data is None:
            raise InvalidOption(
                f"got {type(patient).__name__} without data; expected a source such as 'digits', or (inputs, targets)"
            )
        case = case_of(patient, data, objective=objective, scaling=scaling)
        diagnosis = conclude(evidence_of_case(case))
        if report is not None:
            facts = {"objective": case.objective, "batches": len(case.batches)}
            write(diagnosis_page(diagnosis, look_closely(case), type(patient).__name__, facts=facts), report)
        return diagnosis
    if isinstance(patient, Probe):
        patient = patient.readings()
    if not isinstance(patient, Readings):
        raise InvalidOption(
            f"got {type(patient).__name__}; expected a run, its folder, a module with data, or a Probe; train a recipe first"
        )
    diagnosis = conclude(Evidence(readings=patient))
    if report is not None:
        write(diagnosis_page(diagnosis, CloseLook(), "A network in training"), report)
    return diagnosis


def record(run: Run, **entries: Any) -> None:
    """Add entries to the result of a run that has ended: one that has not may be continued, and has no result yet."""
    if "status" in run.result:
        run.update_result(**entries)


def _paragraph(finding: Finding) -> str:
    lines = [
        f"{finding.rule}{f' from {finding.layer}' if finding.layer else ''} (severity {finding.severity:.2f})",
        finding.cause,
    ]
    if finding.change:
        lines.append(f"change: {finding.change}")
    if finding.prescriptions:
        lines.append(f"try: {', '.join(finding.prescriptions)}")
    return "\n  ".join([*lines, f"source: {finding.source}"])


def _basis(evidence: Evidence) -> str:
    seen, readings = [], evidence.readings
    if readings is not None and readings.steps:
        seen.append(f"{counted(len(readings.steps), 'sampled step')} of {counted(len(readings.layers), 'layer')}")
    if evidence.history:
        seen.append(counted(len(evidence.history), "epoch"))
    return " and ".join(seen)
