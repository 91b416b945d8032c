"""Numbers along an axis: training curves, and lines with a band."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepforward.errors import ShapeError
from deepforward.report.blocks import Chart
from deepforward.report.figures.specification import (
    MAX_ROWS,
    by_name,
    evenly,
    linear,
    logarithmic,
    significant,
    spans_decades,
    specification,
)
from deepforward.report.measures import UNITS, spoken

History = Sequence[Mapping[str, Any]]

#: Dashes by split: training solid, held-out data broken.
DASHES = {"train": [1, 0], "validation": [5, 3], "test": [2, 2]}


def quantities(history: History) -> list[str]:
    """What a history tells by split, in order of appearance: `train/loss` and `test/accuracy` give `loss` and `accuracy`."""
    names = [key.partition("/")[2] for entry in history for key in entry if key.partition("/")[0] in DASHES]
    return [name for name in dict.fromkeys(names) if name]


def training_curves(runs: Mapping[str, History], quantity: str) -> Chart:
    """One quantity by epoch, a line for each run and split.

    Args:
        runs: Name of the run -> one mapping an epoch, with keys `epoch` and `split/quantity`, as in history.jsonl.
        quantity: `loss`, `accuracy`, ...: what follows the slash.

    Returns:
        A chart with runs told by colour and splits by dash; the axis starts at zero, or is logarithmic if the values are
        positive and span decades, or fits the values if some are negative. Values that are not finite are left out and the
        caption says where they began.
    """
    rows: list[dict[str, Any]] = []
    broken = []
    for run, history in runs.items():
        for split in DASHES:
            points = _points(history, f"{split}/{quantity}")
            finite = [(epoch, value) for epoch, value in points if math.isfinite(value)]
            if len(finite) < len(points):
                first = next(epoch for epoch, value in points if not math.isfinite(value))
                broken.append(f"The {split} {quantity}{f' of {run}' if run else ''} is not finite from epoch {first} on.")
            for i in evenly(len(finite), MAX_ROWS // (len(DASHES) * len(runs))):
                epoch, value = finite[i]
                rows.append({"epoch": epoch, "value": significant(value), "split": split, "run": run})

    splits = [split for split in DASHES if any(row["split"] == split for row in rows)]
    many = len(runs) > 1
    dash = {
        "field": "split",
        "type": "nominal",
        "title": None,
        "scale": {"domain": splits, "range": [DASHES[split] for split in splits]},
        "legend": {"symbolType": "stroke", "symbolSize": 220} if len(splits) > 1 else None,
    }
    epochs = sorted({row["epoch"] for row in rows})
    title = spoken(quantity)
    values = [row["value"] for row in rows]
    title += f", {UNITS[quantity]}" if quantity in UNITS else ""
    zero = min(values, default=0) >= 0
    spec = specification(
        rows,
        240,
        mark={"type": "line", "point": {"size": 22} if len(rows) <= 90 else False},
        encoding={
            "x": {**linear("epoch", "epoch"), "axis": {"values": [epochs[i] for i in evenly(len(epochs), 8)]}},
            "y": logarithmic("value", title, values) if spans_decades(values) else linear("value", title, zero=zero),
            "color": by_name("run", list(runs), "stroke") if many else by_name("split", splits, "stroke"),
            "strokeDash": dash,
            "tooltip": [{"field": "run"}] * many
            + [{"field": "split"}, {"field": "epoch"}, {"field": "value", "title": quantity}],
        },
    )
    last = {(row["run"], row["split"]): row["value"] for row in rows}
    ends = "; ".join(f"{' '.join(filter(None, key))} ends at {value:.4g}" for key, value in last.items())
    return Chart(
        spec, alt=f"{quantity} by epoch. {ends}" if ends else f"{quantity} by epoch", caption=" ".join(broken), half=True
    )


def _points(history: History, key: str) -> list[tuple[float, float]]:
    """Epoch and value of each entry that has `key`; None is what JSON keeps of a number that was not finite."""
    entries = [(entry.get("epoch", i + 1), entry[key]) for i, entry in enumerate(history) if key in entry]
    return [(epoch, math.nan if value is None else float(value)) for epoch, value in entries]


def by_epoch(history: History, keys: Mapping[str, str], *, quantity: str, caption: str = "") -> Chart:
    """Some entries of a history by epoch, a line each.

    Args:
        history: One mapping an epoch, as in history.jsonl; what it lacks, or has as None, is a gap.
        keys: Name of the line -> key of the history.
        quantity: What they are, with the unit.
        caption: What to see in it.
    """
    points = {name: dict(_points(history, key)) for name, key in keys.items()}
    epochs = sorted({epoch for line in points.values() for epoch in line})
    rows = [
        {"epoch": epochs[i], "line": name, "value": drawable(line.get(epochs[i], math.nan), log=False)}
        for name, line in points.items()
        for i in evenly(len(epochs), MAX_ROWS // max(len(points), 1))
    ]
    values = [row["value"] for row in rows if row["value"] is not None]
    spec = specification(
        rows if values else [],
        240,
        mark={"type": "line", "point": {"size": 22} if len(rows) <= 90 else False},
        encoding={
            "x": {**linear("epoch", "epoch"), "axis": {"values": [epochs[i] for i in evenly(len(epochs), 8)]}},
            "y": {**linear("value", quantity), "scale": {"domain": [0, 1]} if not any(values) else {"zero": True}},
            "color": by_name("line", list(keys), "stroke"),
            "tooltip": [{"field": "line"}, {"field": "epoch"}, {"field": "value", "title": quantity}],
        },
    )
    last = {row["line"]: row["value"] for row in rows if row["value"] is not None}
    ends = "; ".join(f"{name} ends at {value:.4g}" for name, value in last.items())
    return Chart(spec, alt=f"{quantity} by epoch. {ends}".strip(), caption=caption, half=True)


def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    x_title: str,
    y_title: str,
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    caption: str = "",
) -> Chart:
    """Lines over a common axis, with a band around each where one is given.

    Args:
        x: Positions.
        series: Name -> values at the positions; values that are not finite, and on a logarithmic axis not positive, are gaps.
        x_title: Title of the first axis, with its unit.
        y_title: Title of the second axis, with its unit.
        bands: Name -> lower and upper values at the positions.
        log_x: Whether the first axis is logarithmic.
        log_y: Whether the second axis is logarithmic.
        caption: What to see in it.

    Raises:
        ShapeError: A series or band is longer or shorter than `x`.
    """
    bands = bands or {}
    for name, values in [*series.items(), *((name, side) for name, band in bands.items() for side in band)]:
        if len(values) != len(x):
            raise ShapeError(f"got {len(values)} values in '{name}'; expected {len(x)}, one for each position")
    rows: list[dict[str, Any]] = []
    for i in evenly(len(x), MAX_ROWS // max(len(series), 1)):
        for name, values in series.items():
            low, high = (band[i] for band in bands.get(name, (values, values)))
            numbers = [drawable(float(number), log_y) for number in (values[i], low, high)]
            rows.append(
                {"x": drawable(float(x[i]), log_x), "series": name, **dict(zip(("y", "low", "high"), numbers, strict=True))}
            )
    if not any(row["y"] is not None for row in rows):
        rows = []
    color = by_name("series", list(series), "stroke")
    x_axis = (logarithmic if log_x else linear)("x", x_title, [row["x"] for row in rows])
    if not log_x and all(float(position).is_integer() for position in x):
        x_axis["axis"] = x_axis["axis"] | {"tickMinStep": 1}
    y_axis = (logarithmic if log_y else linear)("y", y_title, [row[side] for row in rows for side in ("y", "low", "high")])
    band = {
        "mark": {"type": "area", "opacity": 0.22},
        "encoding": {"x": x_axis, "y": {**y_axis, "field": "low"}, "y2": {"field": "high"}, "color": color},
    }
    tooltip = [{"field": "series"}, {"field": "x", "title": x_title}, {"field": "y", "title": y_title}]
    line = {
        "mark": {"type": "line", "point": {"size": 22} if len(rows) <= 90 else False},
        "encoding": {"x": x_axis, "y": y_axis, "color": color, "tooltip": tooltip},
    }
    alt = f"{y_title} over {x_title}: {', '.join(series)}"
    return Chart(specification(rows, 280, layer=[band, line] if bands else [line]), alt=alt, caption=caption)


def drawable(x: float, log: bool) -> float | None:
    """`x`, or None where an axis has no place for it."""
    return significant(x) if np.isfinite(x) and (x > 0 or not log) else None
