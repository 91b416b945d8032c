"""What a model of the data dreams, recognises and believes: the part of a page that only energy-based models have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deepforward.report.blocks import Block, Chart, Heading, Images, Table
from deepforward.report.figures import by_epoch, histogram, histograms, training_curves
from deepforward.report.figures.specification import evenly
from deepforward.report.filters_section import NAMES as FILTER_NAMES
from deepforward.report.measures import measures, spoken
from deepforward.report.run_record import RunRecord

#: Images in a row of the picture of a run's way; twelve such rows stay below what a grid may hold.
_A_ROW = 8
_ROWS = 12

_AS_THEY_ARE = "Values were taken as they are, which treats a probability as an observation: not a likelihood to compare."
#: Kind of visible units -> what the objective's `binarize` did to the data before their likelihood was measured.
_BINARIZATIONS = {
    "binary": {
        "stochastic": "Values were drawn 0 or 1 with the value as the probability of 1, as for published likelihoods of MNIST.",
        "threshold": "Values above one half were taken as 1, others as 0; published likelihoods of MNIST draw them instead.",
        "none": _AS_THEY_ARE,
    },
    "softmax": {
        "stochastic": "Each group was drawn one of its categories, with its values as the probabilities.",
        "threshold": "Each group was taken for its likeliest category.",
        "none": _AS_THEY_ARE,
    },
}
_DENSITY = (
    "Of a density of the scaled data, which depends on their scaling and may be above 1: not to compare with probabilities."
)


def has_energy(record: RunRecord) -> bool:
    """Whether the run is one of a model with an energy: it left a portrait, or numbers of its chains or units."""
    observed = any(key.startswith(("chains/", "units/")) for entry in record.history[:1] for key in entry)
    return observed or any(not name.startswith(FILTER_NAMES) for name in record.portrait)


def energy_section(record: RunRecord) -> Iterator[Block]:
    """Samples and chains; reconstructions and completions; free energies and likelihood; hidden units and weights."""
    if not has_energy(record):
        return
    for title, part in (
        ("What the model dreams", _dreams),
        ("What it makes of examples", _recognition),
        ("Free energy and likelihood", _belief),
        ("Hidden units and weights", _inside),
    ):
        blocks = list(part(record))
        if blocks:
            yield Heading(title)
            yield from blocks


def _dreams(record: RunRecord) -> Iterator[Block]:
    portrait = record.portrait
    if "samples" in portrait:
        yield Images(
            portrait["samples"],
            caption="Samples: means of the visible units of chains that began at independent units. They should look like the "
            "data, and not like each other.",
        )
    if "chains" in portrait:
        chains = portrait["chains"]
        yield Images(
            chains.reshape(-1, *chains.shape[2:]),
            caption="A few of these chains, each a row, some sweeps later from image to image. Rows whose images look alike: "
            "the chain does not move, and neither learning nor samples can be trusted.",
            columns=chains.shape[1],
            rows=[f"chain {i + 1}" for i in range(len(chains))],
        )
    yield from _way(record)
    yield from _line(
        record,
        {"mixing": "chains/mixing"},
        "mixing of the chains",
        "Distance of a chain to itself 20 sweeps later, relative to that between chains: 1 where it has forgotten where it "
        "was, near 0 where it stands still.",
    )
    yield from _line(
        record,
        {"diversity": "chains/diversity"},
        "diversity of the chains",
        "Distance between chains, relative to that between examples: near 1 where dreams are as varied as the data, near 0 "
        "where all are alike.",
    )


def _way(record: RunRecord) -> Iterator[Block]:
    """Samples at some epochs, a row each."""
    epochs = [epoch for epoch, shown in record.snapshots.items() if len(shown.get("samples", ()))]
    if not epochs:
        return
    epochs = [epochs[i] for i in evenly(len(epochs), _ROWS)]
    count = min(_A_ROW, *(len(record.snapshots[epoch]["samples"]) for epoch in epochs))
    yield Images(
        np.concatenate([record.snapshots[epoch]["samples"][:count] for epoch in epochs]),
        caption="How the dreams changed while it learned, a row each epoch. The first rows show the mean of the data; shapes "
        "should part from it and become varied.",
        columns=count,
        rows=[f"epoch {epoch}" for epoch in epochs],
    )


def _recognition(record: RunRecord) -> Iterator[Block]:
    yield from _triples(
        record,
        "reconstructions",
        ("test example", "reconstruction"),
        "Test examples, and the means of the visible units given their hidden units. What is missing below the hidden units "
        "have no words for.",
    )
    yield from _triples(
        record,
        "completions",
        ("given", "completed", "whole"),
        "Test examples of which the lower half was taken away and drawn by the model. It should fit the given half; it need "
        "not be the true one.",
    )


def _triples(record: RunRecord, name: str, rows: Sequence[str], caption: str) -> Iterator[Block]:
    """Images (examples, variants, ...) with a column for each example and a row for each variant."""
    images = record.portrait.get(name)
    if images is not None and len(images):
        pixels = images.swapaxes(0, 1).reshape(-1, *images.shape[2:])
        yield Images(pixels, caption=caption, columns=len(images), rows=rows)


def _belief(record: RunRecord) -> Iterator[Block]:
    yield from _likelihood(record)
    names = {split: f"free_energy/{split}" for split in ("train", "test")}
    groups = {split: record.portrait[name] for split, name in names.items() if name in record.portrait}
    if groups:
        yield histograms(
            groups,
            quantity="free energy of an example, nats",
            caption="The lower, the more probable. Both should lie on each other; test examples farther right are strange to "
            "the model.",
        )
    if any("train/free_energy" in entry for entry in record.history):
        yield training_curves({"": record.history}, "free_energy")
    history = [{"epoch": entry.get("epoch"), "gap": _gap(entry)} for entry in record.history if _gap(entry) is not None]
    if history:
        yield by_epoch(
            history,
            {"gap": "gap"},
            quantity="gap of the free energy, nats",
            caption="Mean of held-out minus that of training examples: how much less probable the former are. A gap that grows "
            "above 0: the model learns its examples by heart.",
        )


def _gap(entry: Mapping[str, Any]) -> float | None:
    train, held_out = entry.get("train/free_energy"), entry.get("validation/free_energy")
    return None if train is None or held_out is None else held_out - train


def _likelihood(record: RunRecord) -> Iterator[Block]:
    found = measures(record.metrics)
    told = [m for m in found if m.is_likelihood or m.quantity == "log_partition"]
    if not told:
        return
    caption = "Nats, of an example on average; the higher, the better. The interval is that of the estimate of log Z."
    if any(m.is_bound for m in told):
        caption += " The likelihood itself is at least the bound."
    kind = _option(record, "model_options", "visible", "binary")
    binarize = _option(record, "objective_options", "binarize", "stochastic")
    told_of = _BINARIZATIONS.get(kind, _BINARIZATIONS["binary"])  # a model of one's own may call anything visible
    caption += f" {_DENSITY if kind == 'gaussian' else told_of[binarize]}"
    rows = [[spoken(m.name), m.value, m.range() or None] for m in told]
    yield Table(["quantity", "nats", "95% interval"], rows, {"nats": ".2f"}, caption, half=True)


def _option(record: RunRecord, of: str, name: str, default: str) -> str:
    """An option of the model or the objective, which a recipe leaves out where it is the default."""
    return str(dict(record.recipe.get(of, {})).get(name, default))


def _inside(record: RunRecord) -> Iterator[Block]:
    if record.filters is not None and len(record.filters):
        yield Images(
            record.filters,
            caption="Receptive fields: weights between each hidden unit and the visible units, the strongest first, each "
            "stretched to its own range. Noise: the unit has learnt nothing.",
            contrast="each",
        )
    portrait = record.portrait
    is_binary = _option(record, "model_options", "hidden_kind", "binary") == "binary"
    if "weights" in portrait:
        yield histogram(portrait["weights"], quantity="weight", caption="A random sample of the weights.")
    for name in (name for name in portrait if name.startswith("hidden_activity")):
        layer = name.partition("/")[2]
        yield histogram(
            portrait[name],
            quantity="mean activity of a hidden unit" + (f" of layer {layer}" if layer else ""),
            caption="Over training examples. Near 0: the unit is dead."
            + (" Near 1: it is always on and says no more than a bias." if is_binary else ""),
        )
    yield from _line(
        record,
        {"dead": "units/dead"} | ({"always on": "units/always_on"} if is_binary else {}),
        "share of the hidden units",
        f"Units whose mean activity over training examples is below 0.01{' or above 0.99' if is_binary else ''}: they tell "
        "nothing of an example.",
    )
    if "activity_map" in portrait:
        values = np.asarray(portrait["activity_map"], dtype=np.float64)
        within = values.min(initial=0) >= 0 and values.max(initial=0) <= 1
        shown = np.round(255 * values).astype(np.uint8) if within else values
        yield Images(
            shown[None, None],
            caption=f"Activity of {values.shape[1]} hidden units (columns) on {values.shape[0]} training examples (rows), "
            "white where a unit is on. Grey columns: units that have decided nothing. Columns all black or white: units that "
            "do not tell examples apart. Rows alike: examples that the model does not tell apart.",
            columns=1,
            half=True,
        )


def _line(record: RunRecord, keys: dict[str, str], quantity: str, caption: str) -> Iterator[Chart]:
    if any(key in entry for entry in record.history for key in keys.values()):
        yield by_epoch(record.history, keys, quantity=quantity, caption=caption)
