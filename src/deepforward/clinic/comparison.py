"""Trials of one length on the same seeds: prescriptions, what everybody tries, a random change and a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from deepforward.clinic.diagnosis import Diagnosis
from deepforward.clinic.finding import Evidence
from deepforward.clinic.random_change import random_change
from deepforward.clinic.trials import Verdict, attempts, interval, judge, trial
from deepforward.data import Dataset
from deepforward.engine import Recipe
from deepforward.errors import InvalidModel, NoEffect

#: What every cure of a network that descends a loss is held against: the theory's initialisation, the usual one,
#: normalisation, skips.
COMPARED = ("critical-initialization", "he-initialization", "batch-normalization", "residual-connections")

#: Names of what is no cure: the same recipe from other seeds, and a random change.
CONTROL, RANDOM = "control (other seeds, nothing changed)", "random change (another for each seed)"


@dataclass(frozen=True)
class Comparison:
    """Trials of one length, which share their untreated runs.

    Attributes:
        recipe: The ill recipe at that length.
        diagnosis: What is wrong with it.
        seeds: Seeds of the pairs.
        data: Its data.
        say: Called with a line after each run and verdict.
    """

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

    def held_against_chance(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts, the random change's and the control's; a cure that does not beat the control is inconclusive."""
        if not verdicts:
            return []
        random, control = self._random(), self._control()
        beaten = [v.outcome == "cured" and v.interval[0] <= control.interval[1] for v in verdicts]
        judged = [replace(v, outcome="inconclusive") if b else v for v, b in zip(verdicts, beaten, strict=True)]
        return [*judged, *random, control]

    def _random(self) -> list[Verdict]:
        """A change drawn anew for each seed: what changing something brings in the mean, without any diagnosis."""
        treated: list[Evidence] = []
        for seed in self.seeds:
            rng = torch.Generator().manual_seed(seed)
            try:
                words, changed = random_change(self.recipe.replace(seed=seed), self.data, rng)
            except NoEffect as error:
                self.say(f"random change: {error}")
                return []
            treated += attempts(changed, [seed], self.data, twin=self.diagnosis.evidence.twin, title=f"random change ({words})")
        return [self._judged(RANDOM, treated)]

    def _control(self) -> Verdict:
        """What chance does: the same recipe from other seeds, judged like a prescription."""
        others = [seed + max(self.seeds) + 1 for seed in self.seeds]
        twin = self.diagnosis.evidence.twin
        return self._judged(CONTROL, attempts(self.recipe, others, self.data, twin=twin, title="control"))

    def _judged(self, name: str, treated: Sequence[Evidence]) -> Verdict:
        rule = self.diagnosis.rules[0]
        verdict = judge(self.recipe, name, rule, seeds=self.seeds, untreated=self.untreated, treated=treated)
        self.say(str(verdict))
        return verdict


def is_cure(verdict: Verdict) -> bool:
    """Whether a verdict proves a prescription, rather than what it is held against."""
    return verdict.outcome == "cured" and verdict.prescription not in (CONTROL, RANDOM)


def against_random(best: Verdict, verdicts: Sequence[Verdict]) -> tuple[float, float, float] | None:
    """Mean and 95% interval of what a cure brings above a random change of the same budget and seeds, or None without one."""
    for other in verdicts:
        if other.prescription == RANDOM and (other.epochs, other.seeds) == (best.epochs, best.seeds):
            gain = np.subtract(best.after, other.after)
            return (float(gain.mean()), *interval(gain))
    return None
