"""Numbers by layer: the heat map layer by step, and the profile along depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepforward.errors import ShapeError
from deepforward.report.blocks import Chart
from deepforward.report.figures.curves import drawable
from deepforward.report.figures.specification import by_name, evenly, linear, logarithmic, specification
from deepforward.report.plain import power_of_ten

MAX_LAYERS = 60
MAX_STEPS = 60

#: Factors away from healthy at which the colour changes. They are fixed, so that a colour means the same on every page.
FACTORS = (3.0, 10.0, 1e2, 1e4, 1e8)
NOT_FINITE = 2 * len(FACTORS) + 1
CLASSES = (
    f"< {power_of_ten(-8)}",
    f"< {power_of_ten(-4)}",
    "< 1/100",
    "< 1/10",
    "< 1/3",
    "healthy",
    "> 3",
    "> 10",
    "> 100",
    f"> {power_of_ten(4)}",
    f"> {power_of_ten(8)}",
    "not finite",
)


def heat_map(
    layers: Sequence[str],
    steps: Sequence[int],
    values: np.ndarray,
    *,
    quantity: str,
    healthy: float = 1.0,
    caption: str = "",
) -> Chart:
    """A statistic by layer (downwards, from input to output) and training step.

    Colour tells how many times the value is below or above `healthy`, in classes; NaN and infinities have their own colour.
    More than `MAX_LAYERS` layers or `MAX_STEPS` steps are drawn in groups, each by its worst member, and the caption says so.

    Args:
        layers: Names of the layers in the order of the forward pass.
        steps: Training steps that were sampled.
        values: (steps, layers).
        quantity: Name of the statistic.
        healthy: Value of a layer that is well.
        caption: What to see in it.

    Raises:
        ShapeError: `values` does not have one row for each step and one column for each layer.
    """
    ratio = _checked(layers, steps, values) / healthy
    rows_of, columns_of = _groups(len(steps), MAX_STEPS), _groups(len(layers), MAX_LAYERS)
    badness = _badness(ratio)
    rows: list[dict[str, Any]] = []
    for r in rows_of:
        for c in columns_of:
            at = np.unravel_index(int(badness[r, c].argmax()), badness[r, c].shape)
            step, layer = r.start + int(at[0]), c.start + int(at[1])
            worst = float(ratio[step, layer])
            rows.append(
                {
                    "s": steps[r.start],
                    "l": layers[c.start],
                    "at": f"{layers[layer]}, step {steps[step]}",
                    "v": f"{worst * healthy:.3g}",
                    "c": classify(worst),
                }
            )
    seen = [row["c"] for row in rows]
    finite = [c for c in seen if c != NOT_FINITE]
    legend = list(range(min(finite), max(finite) + 1)) if finite else []
    if NOT_FINITE in seen:
        legend.append(NOT_FINITE)
    spec = specification(
        rows,
        int(np.clip(9 * len(columns_of), 90, 420)),
        mark={"type": "rect"},
        encoding={
            "x": {
                "field": "s",
                "type": "ordinal",
                "title": "training step",
                "axis": {"labelAngle": 0, "ticks": False, "domain": False},
            },
            "y": {
                "field": "l",
                "type": "ordinal",
                "sort": None,
                "title": None,
                "axis": {"ticks": False, "domain": False},
            },
            "color": {
                "field": "c",
                "type": "ordinal",
                "title": quantity if healthy == 1.0 else f"{quantity}, relative to {healthy:.3g}",
                "scale": {"domain": list(range(len(CLASSES))), "range": "diverging"},
                "legend": {
                    "values": legend,
                    "symbolType": "square",
                    "labelExpr": f"{list(CLASSES)}[datum.value]",
                },
            },
            "tooltip": [{"field": "at", "title": "layer"}, {"field": "v", "title": quantity}],
        },
    )
    grouped = len(rows_of) < len(steps) or len(columns_of) < len(layers)
    note = f"Each cell is the worst of up to {_size(columns_of)} layers and {_size(rows_of)} sampled steps." if grouped else ""
    found = ", ".join(CLASSES[c] for c in legend) or "nothing"
    alt = f"{quantity} of {len(layers)} layers over {len(steps)} sampled steps: {found}"
    return Chart(spec, alt=alt, caption=f"{caption} {note}".strip())


def depth_profile(
    layers: Sequence[str],
    steps: Sequence[int],
    values: np.ndarray,
    *,
    quantity: str,
    caption: str = "",
) -> Chart:
    """A statistic along depth at the first, the middle and the last sampled step, on a logarithmic axis.

    Args:
        layers: Names of the layers in the order of the forward pass.
        steps: Training steps that were sampled.
        values: (steps, layers); what is not positive and finite is a gap.
        quantity: Name of the statistic.
        caption: What to see in it.

    Raises:
        ShapeError: `values` does not have one row for each step and one column for each layer.
    """
    values = _checked(layers, steps, values)
    shown = evenly(len(steps), 3)
    rows: list[dict[str, Any]] = [
        {"depth": i + 1, "layer": layers[i], "step": f"step {steps[s]}", "value": drawable(values[s, i], log=True)}
        for s in shown
        for i in evenly(len(layers), 300)
    ]
    spec = specification(
        rows,
        260,
        mark={"type": "line", "point": {"size": 18} if len(layers) <= 60 else False},
        encoding={
            "x": {
                **linear("depth", "layer, from input to output"),
                "axis": {"tickCount": 8, "tickMinStep": 1, "format": "d"},
                "scale": {"nice": False, "zero": False},
            },
            "y": logarithmic("value", quantity, [row["value"] for row in rows]),
            "color": by_name("step", [f"step {steps[s]}" for s in shown], "stroke"),
            "tooltip": [{"field": "layer"}, {"field": "step"}, {"field": "value", "title": quantity, "format": ".3g"}],
        },
    )
    return Chart(
        spec, alt=f"{quantity} by layer at steps {', '.join(str(steps[s]) for s in shown)}", caption=caption, half=True
    )


def classify(ratio: float) -> int:
    """Index in `CLASSES` of a value that is `ratio` times healthy."""
    if not np.isfinite(ratio):
        return NOT_FINITE
    middle, size = len(FACTORS), abs(ratio)
    if size < 1:
        return middle - sum(size * factor < 1 for factor in FACTORS)
    return middle + sum(size > factor for factor in FACTORS)


def _checked(layers: Sequence[str], steps: Sequence[int], values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(steps), len(layers)):
        raise ShapeError(
            f"got values of shape {values.shape}; expected (steps, layers) = {(len(steps), len(layers))}; transpose?"
        )
    return values


def _badness(ratio: np.ndarray) -> np.ndarray:
    """How far from healthy: decades in either direction, infinite for what is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.abs(np.log10(np.abs(ratio)))
    decades = np.where(ratio == 0, np.finfo(np.float64).max, decades)
    return np.where(np.isfinite(ratio), decades, np.inf)


def _groups(count: int, limit: int) -> list[slice]:
    size = -(-count // limit) if count else 1
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def _size(groups: Sequence[slice]) -> int:
    return max(group.stop - group.start for group in groups)
