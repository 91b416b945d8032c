"""Train, diagnose, try prescriptions in paired trials, keep the best that is proved."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deepforward.clinic.diagnosis import Diagnosis, diagnose, record
from deepforward.clinic.finding import Evidence
from deepforward.clinic.rules.progress import thriving
from deepforward.clinic.trials import WORTHWHILE, Verdict, attempts, check_pairs, fit_anyway, judge, trial
from deepforward.clinic.twin import shallower
from deepforward.data import Dataset, load
from deepforward.engine import Recipe, Run
from deepforward.engine.progress import Display
from deepforward.errors import InvalidModel, InvalidOption, NoEffect

#: Share of the recipe's epochs that a first, short trial takes, and the least number of epochs.
_SHORT, _LEAST = 0.25, 3

#: Most combinations of two prescriptions that are tried when none alone is a cure.
_PAIRS = 3

#: How many of the most promising are tried at full length when no short trial proves one.
_FINALISTS = 2


@dataclass(frozen=True)
class Cure:
    """What was wrong, what was tried, and what was proved.

    Attributes:
        baseline: The untreated run.
        diagnosis: What is wrong with it.
        verdicts: All trials, in the order in which they were made; the last one of each budget is the control: the same recipe
            again from other seeds.
        best: The proved prescription that brings the most progress, or None.
        run: The full run under it, or None.
        after: Diagnosis of that run, or None.
    """

    baseline: Run
    diagnosis: Diagnosis
    verdicts: tuple[Verdict, ...] = ()
    best: Verdict | None = None
    run: Run | None = None
    after: Diagnosis | None = None

    def to_dict(self) -> dict[str, Any]:
        """The stable form that is written as JSON."""
        return self.diagnosis.to_dict() | {"verdicts": [verdict.to_dict() for verdict in self.verdicts]}

    def to_json(self) -> str:
        """`to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        lines = [str(self.diagnosis), *(f"- {verdict}" for verdict in self.verdicts)]
        if self.best is None:
            return "\n".join([*lines, "no cure was proved" if self.diagnosis.findings else "nothing to cure"])
        assert self.run is not None
        names = [name for name in self.run.metrics if name in self.baseline.metrics and name.startswith("test/")]
        numbers = ", ".join(f"{name} {self.baseline.metrics[name]:.4g} -> {self.run.metrics[name]:.4g}" for name in names)
        return "\n".join([*lines, f"cured by {self.best.prescription}: {numbers or 'see the report'} ({self.run.folder})"])


def cure(
    patient: Recipe | Run | str | Path,
    *,
    out: str | Path | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    quiet: bool = False,
    data: Dataset | None = None,
) -> Cure:
    """Find out why a recipe does not train, and prove a change that makes it.

    The prescriptions of all findings are tried alone, in short paired trials; if none is proved, pairs of them; if still none,
    the most promising over the full number of epochs. A cure must also beat a control, the unchanged recipe trained again from
    other seeds, and hold when it is trained in full. Test data chooses nothing: trials compare progress in training, or in the
    likelihood of validation examples.

    Args:
        patient: A recipe, or a run that was trained already, or its folder.
        out: Folder for `baseline` and `cured`; default: two new folders below `runs`.
        seeds: Seeds of the paired trials, at least two.
        quiet: Show no progress.
        data: Data to use instead of loading the recipe's.

    Raises:
        InvalidOption: Fewer than two seeds, or something else than a recipe or run.
        DeepforwardError: Anything in the recipe that does not fit; not a divergence, which is a finding.
    """
    if isinstance(patient, (str, Path)):
        patient = Run.open(patient)
    if not isinstance(patient, (Recipe, Run)):
        raise InvalidOption(f"got {type(patient).__name__}; expected a recipe, a run or its folder; diagnose takes a module")
    check_pairs(seeds)
    display = Display("cure", 1, quiet=quiet)
    baseline = patient if isinstance(patient, Run) else _train(patient, out, "baseline", data or load(patient.data), quiet)
    data = data or baseline.data
    diagnosis = _diagnose(baseline, data, display.say)
    display.say(str(diagnosis))
    if not diagnosis.findings:
        return Cure(baseline, diagnosis)
    verdicts = _search(baseline.recipe, diagnosis, seeds, data, display.say)
    written = [verdict.to_dict() for verdict in verdicts]
    record(baseline, verdicts=written)
    proved = sorted((v for v in verdicts if v.outcome == "cured"), key=lambda v: -float(np.mean(v.after)))
    for number, best in enumerate(proved, start=1):
        display.say(f"proved: {best.prescription}; training it in full")
        recipe = best.recipe.replace(epochs=baseline.recipe.epochs, seed=baseline.recipe.seed)
        run = _train(recipe, out, "cured" if number == 1 else f"cured-{number}", data, quiet)
        after = diagnose(run, twin=diagnosis.evidence.twin)
        run.update_result(verdicts=written, untreated=os.path.relpath(baseline.folder, run.folder))
        if _holds(diagnosis, after):
            return Cure(baseline, diagnosis, tuple(verdicts), best, run, after)
        display.say(f"{best.prescription} did not hold over {recipe.epochs} epochs")
    return Cure(baseline, diagnosis, tuple(verdicts))


def _holds(before: Diagnosis, after: Diagnosis) -> bool:
    """Whether the full run keeps what the trials proved."""
    gain = (after.evidence.progress or 0.0) - (before.evidence.progress or 0.0)
    return before.rules[0] not in after.rules and gain > WORTHWHILE


def _train(recipe: Recipe, out: str | Path | None, name: str, data: Dataset, quiet: bool) -> Run:
    return fit_anyway(recipe, Path(out) / name if out is not None else None, data, quiet=quiet)


def _diagnose(run: Run, data: Dataset, say: Callable[[str], None]) -> Diagnosis:
    """Diagnose a run; where nothing but a lack of progress is seen in a deep one, hold its shallower twin against it."""
    diagnosis = diagnose(run)
    twin = shallower(run.recipe)
    if twin is None or thriving(diagnosis.evidence) or set(diagnosis.rules) - {"no-progress"}:
        return diagnosis
    (beside,) = attempts(twin, [run.recipe.seed], data, title="shallower twin", progress=say)
    return diagnose(run, twin=beside)


def _search(
    recipe: Recipe, diagnosis: Diagnosis, seeds: Sequence[int], data: Dataset, say: Callable[[str], None]
) -> list[Verdict]:
    """Short trials of single prescriptions, then of pairs, then the full length for the most promising."""
    full = recipe.epochs or 1
    few = min(full, max(_LEAST, math.ceil(_SHORT * full)))
    short = Trials(recipe.replace(epochs=few), diagnosis, seeds, data, say)
    singles = dict.fromkeys(name for finding in diagnosis.findings for name in finding.prescriptions)
    tried = short.try_all([(name,) for name in singles])
    if not _proved(tried):
        gain = {verdict.prescription: verdict.difference for verdict in tried}
        pairs = sorted(itertools.combinations(gain, 2), key=lambda pair: -max(gain[name] for name in pair))
        tried += short.try_all(pairs[:_PAIRS])
    verdicts = short.held_against_control(tried)
    if not _proved(verdicts) and few < full:
        promising = sorted(tried, key=lambda verdict: -verdict.difference)[:_FINALISTS]
        long = Trials(recipe, diagnosis, seeds, data, say)
        verdicts += long.held_against_control(long.try_all([tuple(v.prescription.split(" + ")) for v in promising]))
    return verdicts


def _proved(verdicts: Sequence[Verdict]) -> bool:
    return any(verdict.outcome == "cured" for verdict in verdicts)


@dataclass(frozen=True)
class Trials:
    """Trials of one length, which share their untreated runs."""

    recipe: Recipe
    diagnosis: Diagnosis
    seeds: Sequence[int]
    data: Dataset
    say: Callable[[str], None]

    @cached_property
    def untreated(self) -> list[Evidence]:
        """The recipe as it is, once from each seed."""
        return attempts(self.recipe, self.seeds, self.data, progress=self.say)

    def try_all(self, prescriptions: Sequence[tuple[str, ...]]) -> list[Verdict]:
        """A verdict for each prescription that changes something on this recipe."""
        verdicts = []
        for names in prescriptions:
            try:
                verdict = trial(
                    self.recipe,
                    names,
                    self.diagnosis.rules[0],
                    self.seeds,
                    evidence=self.diagnosis.evidence,
                    data=self.data,
                    untreated=self.untreated,
                )
            except (NoEffect, InvalidModel) as error:
                self.say(f"{' + '.join(names)}: not applicable ({error})")
                continue
            self.say(str(verdict))
            verdicts.append(verdict)
        return verdicts

    def held_against_control(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts and the control's; a cure that does not beat all that chance may do is called inconclusive."""
        if not verdicts:
            return []
        control = self.control()
        beaten = [v.outcome == "cured" and v.interval[0] <= control.interval[1] for v in verdicts]
        return [*(replace(v, outcome="inconclusive") if b else v for v, b in zip(verdicts, beaten, strict=True)), control]

    def control(self) -> Verdict:
        """What chance does: the same recipe from other seeds, judged like a prescription."""
        others = [seed + max(self.seeds) + 1 for seed in self.seeds]
        again = attempts(self.recipe, others, self.data, twin=self.diagnosis.evidence.twin, title="control")
        name = "control (other seeds, nothing changed)"
        verdict = judge(self.recipe, name, self.diagnosis.rules[0], seeds=self.seeds, untreated=self.untreated, treated=again)
        self.say(str(verdict))
        return verdict
