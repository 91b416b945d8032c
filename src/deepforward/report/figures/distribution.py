"""How numbers are spread: histogram and scatter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepforward.errors import ShapeError
from deepforward.report.blocks import Chart
from deepforward.report.figures.curves import drawable
from deepforward.report.figures.specification import MAX_ROWS, by_name, evenly, linear, logarithmic, significant, specification


def histogram(values: Sequence[float] | np.ndarray, *, quantity: str, bins: int = 40, caption: str = "") -> Chart:
    """Counts in bins of equal width; values that are not finite are counted in the caption.

    Args:
        values: Numbers.
        quantity: What they are, with the unit.
        bins: Number of bins over their range.
        caption: What to see in it.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    finite = array[np.isfinite(array)]
    counts, edges = np.histogram(finite, bins) if len(finite) else (np.zeros(0, int), np.zeros(1))
    rows = [
        {"from": significant(low), "to": significant(high), "count": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    spec = specification(
        rows,
        220,
        mark={"type": "bar"},
        encoding={
            "x": linear("from", quantity) | {"bin": {"binned": True}},
            "x2": {"field": "to"},
            "y": linear("count", "count", zero=True),
            "tooltip": [{"field": "from"}, {"field": "to"}, {"field": "count"}],
        },
    )
    lost = len(array) - len(finite)
    note = f"{lost} values that are not finite are left out." if lost else ""
    return Chart(spec, alt=f"Histogram of {len(finite)} values of {quantity}", caption=f"{caption} {note}".strip(), half=True)


def histograms(groups: Mapping[str, np.ndarray], *, quantity: str, bins: int = 40, caption: str = "") -> Chart:
    """Several histograms over each other in the same bins, each as shares of its own values.

    Args:
        groups: Name -> values; what is not finite is left out.
        quantity: What they are, with the unit.
        bins: Number of bins over the range of all.
        caption: What to see in it.
    """
    arrays = {name: np.asarray(values, dtype=np.float64).ravel() for name, values in groups.items()}
    arrays = {name: values[np.isfinite(values)] for name, values in arrays.items()}
    together = np.concatenate([*arrays.values(), np.zeros(0)])
    edges = np.histogram_bin_edges(together, bins) if len(together) else np.zeros(1)
    rows = []
    for name, values in arrays.items():
        shares = np.histogram(values, edges)[0] / max(len(values), 1) if len(edges) > 1 else np.zeros(0)
        steps = zip(edges, [*shares, 0.0], strict=True) if len(shares) else ()
        rows += [{"from": significant(low), "share": significant(share), "group": name} for low, share in steps]
    empty = {} if rows else {"scale": {"domain": [0, 1]}}  # an axis of nothing has no ends of its own
    spec = specification(
        rows,
        220,
        mark={"type": "area", "interpolate": "step-after", "line": True, "fillOpacity": 0.22},
        encoding={
            "x": {**linear("from", quantity), **empty},
            "y": {**linear("share", "share of the examples", zero=True), "stack": None, **empty},
            "color": by_name("group", list(groups), "stroke"),
            "tooltip": [{"field": "group"}, {"field": "from"}, {"field": "share"}],
        },
    )
    alt = f"Histograms of {quantity}: " + ", ".join(f"{len(values)} of {name}" for name, values in arrays.items())
    return Chart(spec, alt=alt, caption=caption, half=True)


def scatter(
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    *,
    x_title: str,
    y_title: str,
    groups: Sequence[str] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    size: int = 36,
    caption: str = "",
) -> Chart:
    """Points in the plane, coloured and shaped by group: phases, trade-offs, embeddings.

    Args:
        x: First coordinates; a point that has no place on the axes is left out.
        y: Second coordinates.
        x_title: Title of the first axis, with its unit.
        y_title: Title of the second axis, with its unit.
        groups: Group of each point.
        log_x: Whether the first axis is logarithmic.
        log_y: Whether the second axis is logarithmic.
        size: Area of a point in square pixels.
        caption: What to see in it.

    Raises:
        ShapeError: The coordinates and groups are not of one length.
    """
    groups = groups if groups is not None else [""] * len(x)
    if not len(x) == len(y) == len(groups):
        raise ShapeError(f"got {len(x)} x, {len(y)} y and {len(groups)} groups; expected one of each a point")
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    kept = evenly(len(x), MAX_ROWS)
    points = [(drawable(x[i], log_x), drawable(y[i], log_y), groups[i]) for i in kept]
    rows: list[dict[str, Any]] = [{"x": a, "y": b, "group": group} for a, b, group in points if a is not None and b is not None]
    names = list(dict.fromkeys(groups))
    shape = {"field": "group", "type": "nominal", "title": None, "scale": {"domain": names}}
    spec = specification(
        rows,
        320,
        mark={"type": "point", "filled": True, "size": size, "opacity": 0.8},
        encoding={
            "x": (logarithmic if log_x else linear)("x", x_title, [row["x"] for row in rows]),
            "y": (logarithmic if log_y else linear)("y", y_title, [row["y"] for row in rows]),
            "color": by_name("group", names),
            "shape": shape if len(names) > 1 else {"value": "circle"},
            "tooltip": [{"field": "group"}] * (len(names) > 1)
            + [{"field": "x", "title": x_title}, {"field": "y", "title": y_title}],
        },
    )
    note = f"{len(kept)} of {len(x)} points, evenly thinned." if len(kept) < len(x) else ""
    return Chart(spec, alt=f"{y_title} against {x_title}, {len(rows)} points", caption=f"{caption} {note}".strip())
