"""Reading -> finding -> prescription -> trial -> verdict."""

from deepforward.clinic.case import Case, case_of
from deepforward.clinic.close_look import CloseLook, look_closely
from deepforward.clinic.curing import Cure, cure
from deepforward.clinic.diagnosis import Diagnosis, conclude, diagnose
from deepforward.clinic.diagnosis_page import diagnosis_page
from deepforward.clinic.evidence import evidence_of, evidence_of_case
from deepforward.clinic.finding import Evidence, Finding, Rule
from deepforward.clinic.prescriptions import Prescription, prescribe
from deepforward.clinic.trials import Verdict, trial

__all__ = [
    "Case",
    "CloseLook",
    "Cure",
    "Diagnosis",
    "Evidence",
    "Finding",
    "Prescription",
    "Rule",
    "Verdict",
    "case_of",
    "conclude",
    "cure",
    "diagnose",
    "diagnosis_page",
    "evidence_of",
    "evidence_of_case",
    "look_closely",
    "prescribe",
    "trial",
]
