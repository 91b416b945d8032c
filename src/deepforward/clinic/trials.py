"""Prescription -> verdict: paired runs, the same seeds and batches with and without it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.stats import t as student

from deepforward.clinic.diagnosis import conclude
from deepforward.clinic.evidence import evidence_of
from deepforward.clinic.finding import Evidence
from deepforward.clinic.prescriptions import prescribe
from deepforward.data import Dataset, load
from deepforward.engine import Recipe, Run, fit
from deepforward.errors import Diverged, InvalidOption

Outcome = Literal["cured", "no effect", "harmful", "inconclusive"]

#: Progress that a change must bring, at the pessimistic end of its interval, to be worth calling a cure.
WORTHWHILE = 0.1


@dataclass(frozen=True)
class Verdict:
    """What a trial proved.

    Attributes:
        prescription: Names of the prescriptions, joined by " + ".
        outcome: `cured`: the rule is silent on every seed and the whole interval is above `WORTHWHILE`. `harmful`: the whole
            interval is below -`WORTHWHILE`. `no effect`: it is below `WORTHWHILE` otherwise. Else `inconclusive`.
        seeds: Seeds of the pairs.
        before: Progress of each untreated run (share of what there is to learn that was learnt, in [0, 1]: of the chance loss,
            in training; or of likelihood, from independent units to the floor, of validation examples).
        after: Progress of each treated run.
        silent: On how many seeds the rule was silent after the treatment.
        interval: 95% Student interval of the mean paired difference.
        epochs: Epochs of each run.
        recipe: The changed recipe.
    """

    prescription: str
    outcome: Outcome
    seeds: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    silent: int
    interval: tuple[float, float]
    epochs: int
    recipe: Recipe

    @property
    def difference(self) -> float:
        """Mean paired difference of the progress."""
        return float(np.mean(self.after) - np.mean(self.before))

    def to_dict(self) -> dict[str, Any]:
        """The stable form that is written as JSON."""
        return {
            "prescription": self.prescription,
            "outcome": self.outcome,
            "before": list(self.before),
            "after": list(self.after),
            "seeds": list(self.seeds),
            "difference": self.difference,
            "interval": list(self.interval),
            "silent": self.silent,
            "epochs": self.epochs,
        }

    def __str__(self) -> str:
        before, after = (f"{np.mean(values):.1%}" for values in (self.before, self.after))
        low, high = self.interval
        return (
            f"{self.prescription}: {self.outcome} (progress {before} -> {after}, difference {self.difference:+.1%}, "
            f"95% interval {low:+.1%} to {high:+.1%}, {len(self.seeds)} seeds, {self.epochs} epochs)"
        )


def trial(
    recipe: Recipe,
    prescription: str | Sequence[str],
    rule: str,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    epochs: int | None = None,
    evidence: Evidence | None = None,
    data: Dataset | None = None,
    untreated: Sequence[Evidence] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Verdict:
    """Train with and without a prescription from the same seeds and hold the progress against each other.

    Args:
        recipe: The ill recipe; its own seed is replaced by `seeds`.
        prescription: Name of a prescription, or several to apply in order.
        rule: The rule whose finding must go.
        seeds: At least two.
        epochs: Epochs of each run; default: the recipe's.
        evidence: What the diagnosis rests on, for the numbers of the prescription; default: the first untreated run's.
        data: Data to use instead of loading `recipe.data`.
        untreated: The untreated runs' evidence, if they were done already with these seeds and epochs.
        progress: Called with a line after each run.

    Raises:
        NoEffect: The prescription would change nothing.
        InvalidOption: Fewer than two seeds, or an objective whose progress cannot be measured.
    """
    check_pairs(seeds)
    data = data or load(recipe.data)
    recipe = recipe.complete(data.task)
    recipe = recipe.replace(epochs=epochs or recipe.epochs)
    untreated = untreated or attempts(recipe, seeds, data, progress=progress)
    evidence = evidence or untreated[0]
    names = (prescription,) if isinstance(prescription, str) else tuple(prescription)
    changed = prescribe(names, recipe, evidence, data)
    treated = attempts(changed, seeds, data, twin=evidence.twin, title=" + ".join(names), progress=progress)
    return judge(changed, " + ".join(names), rule, seeds=seeds, untreated=untreated, treated=treated)


def check_pairs(seeds: Sequence[int]) -> None:
    """Refuse fewer than two seeds, from whose differences no interval can be computed."""
    if len(seeds) < 2:
        raise InvalidOption(f"a trial got {len(seeds)} seed; expected at least two, since one pair proves nothing")


def attempts(
    recipe: Recipe,
    seeds: Sequence[int],
    data: Dataset,
    *,
    twin: Evidence | None = None,
    title: str = "untreated",
    progress: Callable[[str], None] = lambda line: None,
) -> list[Evidence]:
    """Train the recipe once from each seed and keep only the evidence; a run that diverges is evidence too."""
    gathered: list[Evidence] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            run = fit_anyway(recipe.replace(seed=seed), Path(folder) / "run", data, quiet=True, throwaway=True)
            evidence = evidence_of(run, twin, sibling=gathered[0] if gathered else None)
        gathered.append(evidence)
        progress(f"{title}, seed {seed}: progress {_progress(evidence):.1%} in {recipe.epochs} epochs")
    return gathered


def fit_anyway(recipe: Recipe, out: Path | None, data: Dataset, **options: Any) -> Run:
    """`fit` with its other options, but a run whose loss stops being finite is returned like any other."""
    try:
        return fit(recipe, out, data=data, **options)
    except Diverged as error:
        if error.folder is None:
            raise
        return Run.open(error.folder, data)


def judge(
    changed: Recipe,
    name: str,
    rule: str,
    *,
    seeds: Sequence[int],
    untreated: Sequence[Evidence],
    treated: Sequence[Evidence],
) -> Verdict:
    """Hold paired evidence against each other."""
    before, after = ([_progress(evidence) for evidence in side] for side in (untreated, treated))
    low, high = interval(np.subtract(after, before))
    silent = sum(rule not in conclude(evidence).rules for evidence in treated)
    outcome: Outcome = "inconclusive"
    if low > WORTHWHILE and silent == len(seeds):
        outcome = "cured"
    elif high < -WORTHWHILE:
        outcome = "harmful"
    elif high < WORTHWHILE:
        outcome = "no effect"
    return Verdict(name, outcome, tuple(seeds), tuple(before), tuple(after), silent, (low, high), changed.epochs or 0, changed)


def interval(differences: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Student interval of the mean of paired differences."""
    n = len(differences)
    half = float(student.ppf((1 + confidence) / 2, n - 1)) * float(np.std(differences, ddof=1)) / math.sqrt(n)
    mean = float(np.mean(differences))
    return mean - half, mean + half


def _progress(evidence: Evidence) -> float:
    if evidence.progress is not None:
        return evidence.progress
    objective = evidence.recipe.get("objective")
    if evidence.span is not None and not evidence.descends:
        raise InvalidOption(
            f"a run with '{objective}' has no likelihood of validation examples to measure progress by; expected one that "
            "ended, with a share of them held out (validation=0.1) and ais_chains above 0"
        )
    raise InvalidOption(f"objective '{objective}' has no known chance level to measure progress from; use cross-entropy")
