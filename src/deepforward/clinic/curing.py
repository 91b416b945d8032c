"""Train, diagnose, try prescriptions in paired trials, keep the best that is proved."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepforward.clinic.comparison import COMPARED, CONTROL, RANDOM, Comparison, against_random, is_cure
from deepforward.clinic.diagnosis import Diagnosis, diagnose, record
from deepforward.clinic.rules.progress import thriving
from deepforward.clinic.trials import WORTHWHILE, Verdict, attempts, check_pairs, fit_anyway
from deepforward.clinic.twin import shallower
from deepforward.data import Dataset, load
from deepforward.engine import Recipe, Run
from deepforward.engine.progress import Display
from deepforward.errors import InvalidOption

#: Share of the recipe's epochs that a first, short trial takes, and the least number of epochs.
_SHORT, _LEAST = 0.25, 3

#: Most combinations of two prescriptions that are tried when none alone is a cure.
_PAIRS = 3

#: How many are tried at full length when no short trial proves one: the first that was prescribed, and the most promising. They
#: get twice the seeds: where untreated runs differ, three pairs prove nothing though all three be healed.
_FINALISTS = 2


@dataclass(frozen=True)
class Cure:
    """What was wrong, what was tried, and what was proved.

    Attributes:
        baseline: The untreated run.
        diagnosis: What is wrong with it.
        verdicts: All trials, in the order in which they were made; the last two of each budget are a random change and the
            control: the same recipe again from other seeds.
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
            return "\n".join([*lines, self._without_a_cure()])
        assert self.run is not None
        names = [name for name in self.run.metrics if name in self.baseline.metrics and name.startswith("test/")]
        if (beyond := against_random(self.best, self.verdicts)) is not None:
            mean, low, high = beyond
            lines.append(f"above a random change: {mean:+.1%} (95% interval {low:+.1%} to {high:+.1%})")
        numbers = ", ".join(f"{name} {self.baseline.metrics[name]:.4g} -> {self.run.metrics[name]:.4g}" for name in names)
        return "\n".join([*lines, f"cured by {self.best.prescription}: {numbers or 'see the report'} ({self.run.folder})"])

    def _without_a_cure(self) -> str:
        if not self.diagnosis.findings:
            return "nothing to cure"
        better = [v for v in self.verdicts if v.interval[0] > 0 and v.prescription not in (CONTROL, RANDOM)]
        if not better:
            return "no cure was proved: no improvement by any change that was tried"
        best = max(better, key=lambda verdict: verdict.interval[0])
        return f"no cure was proved; most improvement by {best.prescription} ({best.difference:+.1%})"


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
    the first and the most promising over all epochs, on twice the seeds. Beside them, at the same length and on the same seeds,
    stand what everybody tries (`comparison.COMPARED`), a random change, and a control: the unchanged recipe trained again from
    other seeds. A cure must beat the control, and hold when it is trained in full. Test data chooses nothing: trials compare
    progress in training, or in the likelihood of validation examples.

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
    proved = sorted(filter(is_cure, verdicts), key=lambda v: -float(np.mean(v.after)))
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
    short = Comparison(recipe.replace(epochs=few), diagnosis, seeds, data, say)
    prescribed = [name for finding in diagnosis.findings for name in finding.prescriptions]
    singles = dict.fromkeys([*prescribed, *(COMPARED if diagnosis.evidence.descends else ())])
    tried = short.try_all([(name,) for name in singles])
    if not _proved(tried):
        gain = {verdict.prescription: verdict.difference for verdict in tried}
        pairs = sorted(itertools.combinations(gain, 2), key=lambda pair: -max(gain[name] for name in pair))
        tried += short.try_all(pairs[:_PAIRS])
    verdicts = short.held_against_chance(tried)
    if not _proved(verdicts) and few < full:
        first = next(iter(singles), "")  # a fix that needs time to show must not fall to one that starts fast
        promising = sorted(tried, key=lambda verdict: (verdict.prescription != first, -verdict.difference))[:_FINALISTS]
        more = [*seeds, *(seed + max(seeds) + 1 for seed in seeds)]
        long = Comparison(recipe, diagnosis, more, data, say)
        verdicts += long.held_against_chance(long.try_all([tuple(v.prescription.split(" + ")) for v in promising]))
    return verdicts


def _proved(verdicts: Sequence[Verdict]) -> bool:
    return any(map(is_cure, verdicts))
