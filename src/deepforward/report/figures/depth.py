"""Numbers by layer: the heat map layer by step, and the profile along depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deepforward.errors import ShapeError
from deepforward.report.blocks import Chart
from deepforward.report.figures.curves import drawable
from deepforward.report.figures.specification import by_name, evenly, linear, logarithmic, specification
from deepforward.report.plain import power_of_ten

MAX_LAYERS = 60
MAX_STEPS = 60

#: Pixels that the name of a layer needs; where rows are lower, some go without.
_ROW_HEIGHT = 14

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
    step_groups, layer_groups = _groups(len(steps), MAX_STEPS), _groups(len(layers), MAX_LAYERS)
    rows: list[dict[str, Any]] = []
    for step, layer, step_shown, layer_shown in _worst(ratio, step_groups, layer_groups):
        rows.append(
            {
                "s": steps[step_shown],
                "l": layers[layer_shown],
                "at": f"{layers[layer]}, step {steps[step]}",
                "v": f"{ratio[step, layer] * healthy:.3g}",
                "c": classify(float(ratio[step, layer])),
            }
        )
    legend = _legend([row["c"] for row in rows])
    quiet = {"ticks": False, "domain": False}
    color = {
        "field": "c",
        "type": "ordinal",
        "title": quantity if healthy == 1.0 else f"{quantity}, relative to {healthy:.3g}",
        "scale": {"domain": list(range(len(CLASSES))), "range": "diverging"},
        "legend": {"values": legend, "symbolType": "square", "labelExpr": f"{list(CLASSES)}[datum.value]"},
    }
    height = int(np.clip(_ROW_HEIGHT * len(layer_groups), 90, 420))
    labelled = [layers[layer_groups[i].start] for i in _spaced(len(layer_groups), height // _ROW_HEIGHT)]
    spec = specification(
        rows,
        height,
        mark={"type": "rect"},
        encoding={
            "x": {"field": "s", "type": "ordinal", "title": "training step", "axis": {"labelAngle": 0, **quiet}},
            "y": {
                "field": "l",
                "type": "ordinal",
                "sort": None,
                "title": None,
                "axis": {"values": labelled, "labelOverlap": False, **quiet},
            },
            "color": color,
            "tooltip": [{"field": "at", "title": "layer"}, {"field": "v", "title": quantity}],
        },
    )
    if len(rows) < ratio.size:
        caption += f" Each cell is the worst of up to {_size(layer_groups)} layers and {_size(step_groups)} sampled steps."
    found = ", ".join(CLASSES[c] for c in legend) or "nothing"
    alt = f"{quantity} of {len(layers)} layers over {len(steps)} sampled steps: {found}"
    return Chart(spec, alt=alt, caption=caption.strip())


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
    drawn = [row["value"] for row in rows if row["value"] is not None]
    spec = specification(
        rows if drawn else [],
        260,
        mark={"type": "line", "point": {"size": 18} if len(layers) <= 60 else False},
        encoding={
            "x": {
                **linear("depth", "layer, from input to output"),
                "axis": {"values": [i + 1 for i in evenly(len(layers), 8)]},
                "scale": {"nice": False, "zero": False},
            },
            "y": logarithmic("value", quantity, drawn),
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


def _spaced(count: int, limit: int) -> list[int]:
    """At most `limit` of the indices 0..count-1 at equal distances, but for the last, which may stand farther off."""
    chosen = list(range(0, count, max(-(-count // limit), 1)))
    return [*chosen[:-1], count - 1] if len(chosen) > 1 else chosen


def _checked(layers: Sequence[str], steps: Sequence[int], values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(steps), len(layers)):
        raise ShapeError(
            f"got values of shape {values.shape}; expected (steps, layers) = {(len(steps), len(layers))}; transpose?"
        )
    return values


def _worst(ratio: np.ndarray, rows: Sequence[slice], columns: Sequence[slice]) -> Iterator[tuple[int, int, int, int]]:
    """For each cell of the groups: row and column of the value farthest from 1, and the first row and column of the cell."""
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.abs(np.log10(np.abs(ratio)))
    decades = np.where(ratio == 0, np.finfo(np.float64).max, decades)
    decades = np.where(np.isfinite(ratio), decades, np.inf)
    for r in rows:
        for c in columns:
            block = decades[r, c]
            i, j = np.unravel_index(int(block.argmax()), block.shape)
            yield r.start + int(i), c.start + int(j), r.start, c.start


def _legend(classes: Sequence[int]) -> list[int]:
    """The classes from the lowest to the highest that occur, and that of what is not finite if it occurs."""
    finite = [c for c in classes if c != NOT_FINITE]
    between = list(range(min(finite), max(finite) + 1)) if finite else []
    return between + [NOT_FINITE] * (NOT_FINITE in classes)


def _groups(count: int, limit: int) -> list[slice]:
    size = -(-count // limit) if count else 1
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def _size(groups: Sequence[slice]) -> int:
    return max(group.stop - group.start for group in groups)
