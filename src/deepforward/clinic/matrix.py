"""The page of the rules, docs/clinic.md: which rule finds which planted illness.

`python -m deepforward.clinic.matrix > docs/clinic.md` writes it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence

from deepforward import catalogue
from deepforward.clinic.diagnosis import conclude
from deepforward.clinic.finding import Evidence
from deepforward.clinic.illnesses import HEALTHY, ILLNESSES, Illness
from deepforward.clinic.trials import attempts
from deepforward.clinic.twin import shallower
from deepforward.data import load

_load = functools.cache(load)

_INTRODUCTION = """\
# What the clinic knows

Written by `python -m deepforward.clinic.matrix > docs/clinic.md`, which trains every planted illness and every healthy recipe.

A rule reads evidence and names one cause: the layer where it begins, the numbers behind it (measured, and predicted where there
is a theory), the source it rests on, and one change to make. Of several findings those are dropped that another one explains;
what is wrong at the first step explains what comes later. `cure` holds prescriptions against the unchanged recipe, the critical
initialisation and He's, batch normalisation, residual connections and a random change, on the same seeds, for as many epochs.
How often all this is right on random networks, `benchmarks/clinic_accuracy.py` asks.
"""


def untreated(illness: Illness) -> list[Evidence]:
    """The illness, left to itself, once from each of its seeds."""
    data, recipe, twin = _load(illness.recipe.data), illness.recipe.complete(), None
    if illness.needs_twin:
        shallow = shallower(recipe)
        assert shallow is not None
        (twin,) = attempts(shallow, [illness.seeds[0]], data)
    return attempts(recipe, illness.seeds, data, twin=twin)


def confusion(rows: Mapping[str, Sequence[Evidence]]) -> dict[str, dict[str, int]]:
    """In how many runs of each row each rule has the last word.

    Args:
        rows: Name of an illness, or of a healthy recipe, to the evidence of its runs.

    Returns:
        Row -> rule -> number of runs.
    """
    rules = [card.name for card in catalogue.cards("rules")]
    return {
        name: {rule: sum(rule in conclude(evidence).rules for evidence in runs) for rule in rules}
        for name, runs in rows.items()
    }


def page(counts: Mapping[str, Mapping[str, int]], runs: Mapping[str, int]) -> str:
    """The page as Markdown.

    Args:
        counts: What `confusion` gives.
        runs: Number of runs of each row.
    """
    rules = [card.name for card in catalogue.cards("rules")]
    lines = [_INTRODUCTION, "## Rules x illnesses", "", "Runs in which a rule has the last word, of all runs of that row.", ""]
    lines += [_row(["", *(f"{number}" for number in range(1, len(rules) + 1)), "runs"]), _row(["---"] * (len(rules) + 2))]
    for name, found in counts.items():
        title = f"{rules.index(name) + 1} {name}" if name in rules else f"healthy: {name}"
        lines.append(_row([title, *(str(found[rule] or ".") for rule in rules), str(runs[name])]))
    lines += ["", "## Rules", "", _row(["", "rule", "finds", "explains away", "source"]), _row(["---"] * 5)]
    for number, card in enumerate(catalogue.cards("rules"), start=1):
        explains = ", ".join(card.details.get("explains", ())) or "nothing"
        lines.append(_row([str(number), card.name, card.summary, explains, card.source]))
    lines += [
        "",
        "## Planted illnesses",
        "",
        _row(["rule", "illness", "cure proved", "placebo proved none"]),
        _row(["---"] * 4),
    ]
    for name, illness in ILLNESSES.items():
        lines.append(_row([name, illness.why, illness.cure, illness.placebo]))
    return "\n".join([*lines, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Train everything and print the page."""
    rows: dict[str, Sequence[Evidence]] = {card.name: untreated(ILLNESSES[card.name]) for card in catalogue.cards("rules")}
    for name, recipe in HEALTHY.items():
        rows[name] = attempts(recipe.complete(), range(3), _load(recipe.data))
    sys.stdout.write(page(confusion(rows), {name: len(runs) for name, runs in rows.items()}))


if __name__ == "__main__":
    main()
