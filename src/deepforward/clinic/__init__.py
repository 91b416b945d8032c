"""Reading -> finding -> prescription -> trial -> verdict."""

from deepforward.clinic.curing import Cure, cure
from deepforward.clinic.diagnosis import Diagnosis, conclude, diagnose
from deepforward.clinic.evidence import evidence_of, probe_module
from deepforward.clinic.finding import Evidence, Finding, Rule
from deepforward.clinic.prescriptions import Prescription, prescribe
from deepforward.clinic.trials import Verdict, trial

__all__ = [
    "Cure",
    "Diagnosis",
    "Evidence",
    "Finding",
    "Prescription",
    "Rule",
    "Verdict",
    "conclude",
    "cure",
    "diagnose",
    "evidence_of",
    "prescribe",
    "probe_module",
    "trial",
]
