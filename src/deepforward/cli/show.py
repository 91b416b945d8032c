"""Runs, findings and verdicts in words, on stdout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deepforward.report.measures import Measure, measures
from deepforward.report.plain import counted

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from deepforward.clinic import Cure, Diagnosis, Verdict
    from deepforward.engine import Run

_STYLES = {"cured": "bold green", "harmful": "bold red", "no effect": "dim", "inconclusive": "yellow"}


def run(run: Run) -> None:
    """How a run ended, and its metrics."""
    facts = run.result
    end = f"{facts['status']} after {counted(facts['epochs'], 'epoch')}"
    console().print(
        f"{run.recipe.model} on {run.recipe.data}: {end}, {facts['seconds']:.1f} s, {facts['parameters']:,} parameters"
    )
    found = measures({name: value for name, value in run.metrics.items() if name != "train/loss" or run.descends})
    has_units, has_intervals = (any(getattr(m, part) for m in found) for part in ("unit", "interval"))
    metrics = table(["metric"], ["value", *["95% interval"] * has_intervals])
    if has_units:
        metrics.add_column("unit")
    for m in found:
        metrics.add_row(m.name, f"{m.value:.4f}", *[_interval(m)] * has_intervals, *[m.unit] * has_units)
    console().print(metrics)


def _interval(measure: Measure) -> str:
    if measure.interval is None or measure.is_exact:
        return measure.range()
    low, high = ("" if math.isnan(end) else f"{end:.4f}" for end in measure.interval)
    return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"


def diagnosis(diagnosis: Diagnosis) -> None:
    """Each finding: rule and layer, cause, what to try, and the source it rests on."""
    out = console()
    if not diagnosis.findings:
        out.print(Text(str(diagnosis), style="green"))
    for finding in diagnosis.findings:
        place = f" from layer {finding.layer}" if finding.layer else ""
        out.print(Text.assemble((finding.rule, "bold red"), place, f", severity {finding.severity:.2f}"))
        out.print(Text(f"  {finding.cause}"))
        if finding.change:
            out.print(Text(f"  change: {finding.change}", style="bold"))
        if finding.prescriptions:
            out.print(Text(f"  to try: {', '.join(finding.prescriptions)}"))
        out.print(Text(f"  source: {finding.source}", style="dim"))


def cure(cure: Cure) -> None:
    """What was wrong, what every trial gave, and what was proved."""
    diagnosis(cure.diagnosis)
    if cure.verdicts:
        console().print(_trials(cure.verdicts))
    if cure.best is not None and cure.run is not None:
        console().print(Text(f"cured by {cure.best.prescription}, proved on {len(cure.best.seeds)} seeds", style="bold green"))
        metrics = table(["metric"], ["untreated", "cured"])
        for name in (name for name in cure.run.metrics if name in cure.baseline.metrics):
            metrics.add_row(name, f"{cure.baseline.metrics[name]:.4f}", f"{cure.run.metrics[name]:.4f}")
        console().print(metrics)
    elif cure.diagnosis.findings:
        console().print(Text(str(cure).splitlines()[-1], style="bold red"))


def _trials(verdicts: tuple[Verdict, ...]) -> Table:
    trials = table(["prescription", "verdict"], ["untreated", "treated", "difference (95% interval)", "seeds", "epochs"])
    for verdict in verdicts:
        before, after = (f"{sum(side) / len(side):.1%}" for side in (verdict.before, verdict.after))
        low, high = verdict.interval
        trials.add_row(
            verdict.prescription,
            Text(verdict.outcome, style=_STYLES[verdict.outcome]),
            before,
            after,
            f"{verdict.difference:+.1%} ({low:+.1%} to {high:+.1%})",
            str(len(verdict.seeds)),
            str(verdict.epochs),
        )
    trials.caption = "untreated, treated: share of the loss of pure guessing that training removed, mean over the seeds"
    return trials


def predictions(found: Sequence[tuple[Path, Tensor]], classes: Sequence[str]) -> None:
    """For each file the likeliest class and its probability, or where there are no classes the value."""
    told = table(["file", "class"], ["probability"]) if classes else table(["file"], ["value"])
    for file, predicted in found:
        likeliest = int(predicted.argmax()) if classes else 0
        told.add_row(str(file), *([classes[likeliest], f"{predicted[likeliest]:.4f}"] if classes else [f"{predicted:.6g}"]))
    console().print(told)


def table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table with columns of words, then columns of numbers."""
    empty = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    for column in words:
        empty.add_column(column)
    for column in numbers:
        empty.add_column(column, justify="right")
    return empty


def console() -> Console:
    """Where results go; when piped, wide enough that no line is folded."""
    stdout = Console(highlight=False, emoji=False, markup=False)
    if not stdout.is_terminal:
        stdout.width = 200
    return stdout
