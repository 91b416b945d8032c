"""What a run left behind -> the page about it: verdict and advice first, then the evidence, then how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from deepforward.report.blocks import Block, Code, Facts, Heading, Images, Table, Text
from deepforward.report.conclusion_section import conclusion_section, finite, trials_section
from deepforward.report.energy_section import energy_section, has_energy
from deepforward.report.figures import confusion_matrix, quantities, training_curves
from deepforward.report.filters_section import filters_section
from deepforward.report.mask_section import mask_section
from deepforward.report.measures import headline, measures, spoken
from deepforward.report.page import Page
from deepforward.report.plain import counted
from deepforward.report.readings_section import LayerReadings, gradient_map, readings_section
from deepforward.report.run_record import RunRecord


def run_page(record: RunRecord) -> Page:
    """The report of one run."""
    recipe = record.recipe
    facts = [counted(len(record.history), "epoch"), f"seed {recipe['seed']}" if "seed" in recipe else "", record.status]
    told = (conclusion_section, trials_section, _stages, _curves, energy_section, filters_section, mask_section)
    sections = (*told, _depth, _errors, _filters, _data, _making)
    return Page(
        title=f"{recipe.get('model', 'A network')} on {recipe.get('data', 'data')}",
        subtitle=" · ".join(filter(None, facts)),
        blocks=[block for section in sections for block in section(record)],
    )


def _curves(record: RunRecord) -> Iterator[Block]:
    others = ({"before the cure": record.untreated.history} if record.untreated is not None else {}) | dict(record.twins)
    runs = {"this run" if others else "": record.history, **others}
    found = quantities([entry for history in runs.values() for entry in history])
    metrics = finite(record.metrics)
    if not record.descends:
        found = [quantity for quantity in found if quantity != "loss"]
        metrics.pop("train/loss", None)
    if has_energy(record):  # its section draws them
        found = [quantity for quantity in found if quantity != "free_energy"]
    if found or metrics:
        yield Heading("Training")
    for quantity in found:
        yield training_curves(runs, quantity)
    if metrics:
        told = {spoken(m.name): m.whole() for m in measures(record.metrics) if m.name in metrics}
        yield Facts(told, "Final metrics", half=True)


def _stages(record: RunRecord) -> Iterator[Block]:
    """The trainings of the same network that came first."""
    if not record.stages:
        return
    yield Heading("Pretraining")
    rows = []
    for stage in record.stages:
        told = "; ".join(f"{spoken(m.name)} {m.whole()}" for m in headline(stage["metrics"]))
        rows.append([stage["name"], stage["status"], stage["epochs"], told or None, stage["changes"]])
    yield Table(
        ["stage", "status", "epochs", "final metrics", "differs from this run in"],
        rows,
        caption="Trainings of the same network that came first, each a run in a folder of that name below this one; "
        f"`deepforward report RUN/{record.stages[0]['name']}` draws its page.",
        stacks=True,
    )


def _depth(record: RunRecord) -> Iterator[Block]:
    before = record.untreated.readings if record.untreated is not None else None
    if _has_samples(record.readings) or _has_samples(before):
        yield Heading("Inside the network")
    if before is not None and _has_samples(before):
        yield from gradient_map(before, "Before the cure.")
    if record.readings is not None and _has_samples(record.readings):
        yield from readings_section(record.readings, "After the cure." if before is not None else "")


def _has_samples(readings: LayerReadings | None) -> bool:
    return readings is not None and len(readings.steps) > 0 and len(readings.layers) > 0


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
        yield Images(
            record.mistakes,
            record.mistake_captions,
            "Worst mistakes first: those where the right class was given the least probability.",
        )


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
    if record.filters is not None and len(record.filters) and not has_energy(record):
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
