"""What is wrong, what cures it and what proves that: the first part of a run's page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deepforward import catalogue
from deepforward.errors import UnknownName
from deepforward.report.blocks import Advice, Block, Heading, Table, Tone, Verdict
from deepforward.report.figures import paired_trials
from deepforward.report.measures import Measure, headline, spoken
from deepforward.report.plain import counted, plain
from deepforward.report.run_record import RunRecord

#: What `before` and `after` of a trial are.
PROGRESS = "share of the chance loss removed"


def conclusion_section(record: RunRecord) -> Iterator[Block]:
    """The verdict, and advice on each finding; a cured run tells what was found before the cure."""
    yield _verdict(record)
    worst = _worst(record)
    for finding in record.findings or ():
        said = [] if finding is worst else [_sentence(finding["cause"])]
        change = finding.get("change", "")
        yield _advice(finding, " ".join([*said, *([f"The change to make: {_sentence(change)}"] if change else [])]))
    if record.untreated is not None:
        for finding in record.untreated.findings or ():
            yield _before(finding)


def trials_section(record: RunRecord) -> Iterator[Block]:
    """Every prescription that was tried, and its pairs."""
    if not record.verdicts:
        return
    yield Heading("Trials of cures")
    yield Table(
        ["prescription", "outcome", "before", "after", "95% interval", "seeds", "epochs"],
        [
            [
                _words(v["prescription"]),
                v["outcome"],
                _mean(v, "before"),
                _mean(v, "after"),
                _interval(v),
                _seeds(v),
                v.get("epochs"),
            ]
            for v in record.verdicts
        ],
        formats={"before": ".1%", "after": ".1%"},
        caption="Share of the loss of pure guessing that training removed, mean over pairs with the same seed and batches; "
        "the interval is that of the mean difference.",
        stacks=True,
    )
    names, before, after = [], [], []
    for verdict in record.verdicts:
        for b, a in zip(np.atleast_1d(verdict["before"]), np.atleast_1d(verdict["after"]), strict=True):
            names.append(_words(verdict["prescription"]).partition(" (")[0])
            before.append(float(b))
            after.append(float(a))
    yield paired_trials(names, before, after, PROGRESS)


def _verdict(record: RunRecord) -> Verdict:
    numbers = _numbers(record)
    proof = _proof(record)
    worst = _worst(record)
    if worst is not None:
        tried = proof or ("No cure was proved." if record.verdicts else "")
        outcome = _words(worst["rule"]) + (", cure proved" if proof else "")
        return Verdict(outcome, f"{_sentence(worst['cause'])} {tried}".strip(), numbers, _tone(worst["severity"]))
    if proof:
        return Verdict("cured", proof, numbers, "good")
    if record.findings is None:
        return Verdict(record.status, "Nobody has yet asked what is wrong with this run: `deepforward diagnose` does.", numbers)
    if record.status == "not trained":
        return Verdict("no illness found", "No rule finds anything wrong with this network.", numbers, "good")
    if record.status not in ("finished", "stopped early"):
        return Verdict(record.status, "The run did not come to its end, and no rule names a cause.", numbers, "bad")
    return Verdict("no illness found", "No rule finds anything wrong with this run.", numbers, "good")


def _worst(record: RunRecord) -> Mapping[str, Any] | None:
    return max(record.findings or (), key=lambda finding: float(finding["severity"]), default=None)


def _proof(record: RunRecord) -> str:
    """The best proved cure in a sentence, or "" if none was proved."""
    cures = [verdict for verdict in record.verdicts if verdict["outcome"] == "cured"]
    if not cures:
        return ""
    best = max(cures, key=_assured)
    before, after = (plain(_mean(best, when), ".1%") for when in ("before", "after"))
    length = f" of {counted(best['epochs'], 'epoch')}" if "epochs" in best else ""
    return (
        f"With {_words(best['prescription'])}, training removes {after} of the loss of pure guessing instead of {before}, "
        f"proved by paired runs{length} on {counted(_seeds(best), 'seed')}."
    )


def _numbers(record: RunRecord) -> dict[str, str]:
    """The metrics that tell most, with their intervals; for a cured run beside those before the cure."""
    numbers = _end(record) if record.status == "diverged" else {}
    for told in headline(record.metrics):
        name = told.name
        if record.untreated is not None and name in record.untreated.metrics:
            numbers[f"{spoken(name)} before"] = Measure(name, record.untreated.metrics[name]).number()
        facts = [spoken(name), told.unit, told.range() if told.is_exact else ""]
        numbers[", ".join(filter(None, facts))] = told.number()
        if told.interval is not None and not told.is_exact:
            numbers["its 95% interval"] = told.range()
    return numbers


def _end(record: RunRecord) -> dict[str, str]:
    """Where a run diverged, and the last training loss of an epoch before."""
    numbers = {"diverged at step": plain(record.history[-1].get("step"))} if record.history else {}
    losses = [entry.get("train/loss") for entry in record.history]
    known = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    return numbers | ({"last finite train loss": plain(known[-1])} if known and record.descends else {})


def _advice(finding: Mapping[str, Any], cause: str) -> Advice:
    return Advice(
        title=_capital(_where(finding)),
        cause=cause,
        actions=_actions(finding),
        source=finding.get("source", ""),
        tone=_tone(finding["severity"]),
    )


def _actions(finding: Mapping[str, Any]) -> list[str]:
    """The one change to make, if it says more than the first prescription, then all prescriptions."""
    described = [_described(name) for name in finding.get("prescriptions", ())]
    change = str(finding.get("change", ""))
    says_more = change and not (described and described[0].endswith(change))
    return [_capital(change), *described] if says_more else described


def _before(finding: Mapping[str, Any]) -> Advice:
    """A finding of the untreated run: what was tried against it stands in the trials."""
    title = f"Before the cure: {_where(finding)}"
    return Advice(title, _sentence(finding["cause"]), source=finding.get("source", ""), tone="neutral")


def _where(finding: Mapping[str, Any]) -> str:
    layer = str(finding.get("layer", "")).removesuffix("#0")
    return _words(finding["rule"]) + (f", from {layer} on" if layer else "")


def _tone(severity: float) -> Tone:
    return "bad" if severity >= 0.5 else "warn"


def _mean(verdict: Mapping[str, Any], when: str) -> float:
    values = np.atleast_1d(np.asarray(verdict[when], dtype=np.float64))
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _assured(verdict: Mapping[str, Any]) -> float:
    """The gain that is sure: the lower end of the interval, or the mean difference where there is none."""
    return float(verdict["interval"][0]) if "interval" in verdict else _mean(verdict, "after") - _mean(verdict, "before")


def _interval(verdict: Mapping[str, Any]) -> str:
    return " to ".join(plain(float(end), "+.1%") for end in verdict.get("interval", ())) or plain(None)


def _seeds(verdict: Mapping[str, Any]) -> int:
    return len(verdict.get("seeds") or np.atleast_1d(verdict["after"]))


def _described(prescription: str) -> str:
    try:
        return f"{_words(prescription)}: {catalogue.card('prescriptions', prescription).summary}"
    except UnknownName:
        return _words(prescription)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    text = _capital(text)
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _words(name: str) -> str:
    return name.replace("-", " ")


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those metrics that are numbers: a run that diverged has others."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
