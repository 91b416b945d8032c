"""What a run left behind -> the page about it: verdict and advice first, then the evidence, then how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepforward import catalogue
from deepforward.errors import UnknownName
from deepforward.report.blocks import Advice, Block, Code, Facts, Heading, Images, Table, Text, Tone, Verdict
from deepforward.report.figures import History, confusion_matrix, paired_trials, quantities, training_curves
from deepforward.report.page import Page
from deepforward.report.plain import plain
from deepforward.report.readings_section import LayerReadings, readings_section


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run as plain values; what a run did not leave is left empty, and its part of the page is left out.

    Attributes:
        recipe: The complete recipe.
        command: What was typed to make the run.
        status: How it ended: `finished`, `stopped early`, `diverged`, ...
        versions: Package -> version.
        metrics: Final metrics by `split/name`.
        findings: `rule`, `layer`, `severity`, `evidence`, `cause`, `source`, `prescriptions` of each cause that was found.
        verdicts: `prescription`, `outcome`, `before`, `after`, `seeds` of each trial; before and after are one number, or one
            for each seed, of what `verdict_quantity` names.
        verdict_quantity: What trials compare, with its unit.
        history: One mapping an epoch, as in history.jsonl.
        twins: Name -> history of runs to show beside this one, such as the cured one.
        readings: What the instruments saw.
        confusion: (true class, predicted class) counts on the test split.
        classes: Class names by index.
        mistakes: Worst mistakes as images (images, channels, height, width), the worst first.
        mistake_captions: One for each of them, such as `7 taken for 1 (98%)`.
        filters: Filters of the first layer as images.
        first_images: First examples of the training split as images.
        first_captions: One for each of them, such as the class.
        data: Facts of the data set.
    """

    recipe: Mapping[str, Any]
    command: str = ""
    status: str = "finished"
    versions: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    findings: Sequence[Mapping[str, Any]] = ()
    verdicts: Sequence[Mapping[str, Any]] = ()
    verdict_quantity: str = "test accuracy"
    history: History = ()
    twins: Mapping[str, History] = field(default_factory=dict)
    readings: LayerReadings | None = None
    confusion: np.ndarray | None = None
    classes: Sequence[str] = ()
    mistakes: np.ndarray | None = None
    mistake_captions: Sequence[str] = ()
    filters: np.ndarray | None = None
    first_images: np.ndarray | None = None
    first_captions: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


def run_page(record: RunRecord) -> Page:
    """The report of one run."""
    recipe = record.recipe
    facts = [f"{len(record.history)} epochs", f"seed {recipe['seed']}" if "seed" in recipe else "", record.status]
    sections = (_conclusion, _trials, _curves, _depth, _errors, _filters, _data, _making)
    return Page(
        title=f"{recipe.get('model', 'A network')} on {recipe.get('data', 'data')}",
        subtitle=" · ".join(filter(None, facts)),
        blocks=[block for section in sections for block in section(record)],
    )


def _conclusion(record: RunRecord) -> Iterator[Block]:
    yield _verdict(record)
    for finding in record.findings:
        place = f", from {finding['layer']} on" if finding.get("layer") else ""
        yield Advice(
            title=f"{_words(finding['rule']).capitalize()}{place}",
            cause=finding["cause"],
            actions=[_described(name) for name in finding.get("prescriptions", ())],
            source=finding.get("source", ""),
            tone=_tone(finding["severity"]),
        )


def _verdict(record: RunRecord) -> Verdict:
    numbers = {_spoken(name): _value(name, value) for name, value in record.metrics.items()}
    cures = [verdict for verdict in record.verdicts if verdict["outcome"] == "cured"]
    if cures:
        best = max(cures, key=lambda verdict: abs(_mean(verdict, "after") - _mean(verdict, "before")))
        before, after = (_value(record.verdict_quantity, _mean(best, when)) for when in ("before", "after"))
        change = f"{record.verdict_quantity} goes from {before} to {after}"
        sentence = f"With {_name(best)}, {change}: proved by paired runs on {_seeds(best)}."
        return Verdict(
            "cured", sentence, {f"{record.verdict_quantity} before": before, f"{record.verdict_quantity} after": after}, "good"
        )
    if record.findings:
        tried = " No cure was proved." if record.verdicts else ""
        worst = _worst(record)
        return Verdict(_words(worst["rule"]), worst["cause"] + tried, numbers, _tone(worst["severity"]))
    if record.status not in ("finished", "stopped early"):
        return Verdict(record.status, "The run did not come to its end, and no rule names a cause.", numbers, "bad")
    return Verdict("no illness found", "No rule finds anything wrong with this run.", numbers, "good")


def _trials(record: RunRecord) -> Iterator[Block]:
    if not record.verdicts:
        return
    yield Heading("Trials of cures")
    yield Table(
        ["prescription", "outcome", "before", "after", "seeds"],
        [
            [_name(verdict), verdict["outcome"], _mean(verdict, "before"), _mean(verdict, "after"), _seeds(verdict)]
            for verdict in record.verdicts
        ],
        formats={"before": ".4g", "after": ".4g"},
        caption=f"Mean {record.verdict_quantity} over pairs of runs with the same seed and the same batches.",
    )
    names, before, after = [], [], []
    for verdict in record.verdicts:
        pairs = list(zip(np.atleast_1d(verdict["before"]), np.atleast_1d(verdict["after"]), strict=True))
        for b, a in pairs:
            names.append(_name(verdict))
            before.append(float(b))
            after.append(float(a))
    yield paired_trials(names, before, after, record.verdict_quantity)


def _curves(record: RunRecord) -> Iterator[Block]:
    runs = {"this run" if record.twins else "": record.history, **record.twins}
    found = quantities([entry for history in runs.values() for entry in history])
    if found:
        yield Heading("Training")
    for quantity in found:
        yield training_curves(runs, quantity)


def _depth(record: RunRecord) -> Iterator[Block]:
    if record.readings is not None and len(record.readings.steps) and len(record.readings.layers):
        yield Heading("Inside the network")
        yield from readings_section(record.readings)


def _errors(record: RunRecord) -> Iterator[Block]:
    has_mistakes = record.mistakes is not None and len(record.mistakes) > 0
    if record.confusion is None and not has_mistakes:
        return
    yield Heading("Errors")
    if record.confusion is not None:
        confusion = np.asarray(record.confusion)
        yield confusion_matrix(
            confusion,
            record.classes,
            "Number of test examples; the stronger the colour, the larger the share of the true class.",
        )
        yield _most_confused(confusion, record.classes)
    if record.mistakes is not None and has_mistakes:
        yield Images(record.mistakes, record.mistake_captions, "Worst mistakes: the surest of the wrong answers first.")


def _most_confused(confusion: np.ndarray, classes: Sequence[str]) -> Block:
    off = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-off, axis=None, kind="stable")[:8]
    pairs = [(int(i) // len(off), int(i) % len(off)) for i in order if off.flat[i] > 0]
    if not pairs:
        return Text("No test example was classified wrongly.")
    names = list(classes) or [str(i) for i in range(len(off))]
    rows = [[names[t], names[p], int(off[t, p]), off[t, p] / max(confusion[t].sum(), 1)] for t, p in pairs]
    return Table(["true", "predicted", "examples", "share"], rows, {"share": ".1%"}, "Most frequent confusions.", half=True)


def _filters(record: RunRecord) -> Iterator[Block]:
    if record.filters is not None and len(record.filters):
        yield Heading("First-layer filters")
        yield Images(record.filters, caption="Weights of the first layer, each stretched to its own range.", contrast="each")


def _data(record: RunRecord) -> Iterator[Block]:
    has_images = record.first_images is not None and len(record.first_images) > 0
    if record.data or has_images:
        yield Heading("Data")
    if record.data:
        yield Facts(record.data, half=has_images)
    if record.first_images is not None and has_images:
        yield Images(
            record.first_images, record.first_captions, "First examples of the training split.", half=bool(record.data)
        )


def _making(record: RunRecord) -> Iterator[Block]:
    yield Heading("Recipe and versions")
    if record.command:
        yield Code(record.command)
    yield Facts(record.recipe, "Recipe", half=True)
    if record.versions:
        yield Facts(record.versions, "Versions", half=True)


def _worst(record: RunRecord) -> Mapping[str, Any]:
    return max(record.findings, key=lambda finding: float(finding["severity"]))


def _tone(severity: float) -> Tone:
    return "bad" if severity >= 0.5 else "warn"


def _mean(verdict: Mapping[str, Any], when: str) -> float:
    values = np.atleast_1d(np.asarray(verdict[when], dtype=np.float64))
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _name(verdict: Mapping[str, Any]) -> str:
    return _words(verdict["prescription"])


def _seeds(verdict: Mapping[str, Any]) -> str:
    count = len(verdict.get("seeds") or np.atleast_1d(verdict["after"]))
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _described(prescription: str) -> str:
    try:
        return f"{_words(prescription)}: {catalogue.card('prescriptions', prescription).summary}"
    except UnknownName:
        return _words(prescription)


def _words(name: str) -> str:
    return name.replace("-", " ")


def _spoken(metric: str) -> str:
    return metric.replace("/", " ").replace("_", " ")


def _value(name: str, value: float) -> str:
    return plain(value, ".1%" if name.endswith("accuracy") else ".4g")
