"""Curves that turn back: pen strokes, orbits, trajectories of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepforward.errors import ShapeError
from deepforward.report.blocks import Chart
from deepforward.report.figures.curves import drawable
from deepforward.report.figures.specification import MAX_ROWS, by_name, evenly, linear, specification


def paths(
    series: Mapping[str, Sequence[Sequence[float]] | np.ndarray],
    *,
    x_title: str,
    y_title: str,
    height: int = 240,
    caption: str = "",
) -> Chart:
    """Curves through points of the plane in the order in which they are given, whichever way they go.

    Args:
        series: Name -> points (x, y); a point that is not finite is left out and the curve goes on behind it.
        x_title: Title of the first axis, with its unit.
        y_title: Title of the second axis, with its unit.
        height: Of the chart in pixels.
        caption: What to see in it.

    Raises:
        ShapeError: A point has not two coordinates.
    """
    rows: list[dict[str, Any]] = []
    for name, given in series.items():
        points = np.asarray(given, np.float64) if len(given) else np.zeros((0, 2))
        if points.ndim != 2 or points.shape[1] != 2:
            raise ShapeError(f"got points of shape {points.shape} in '{name}'; expected (points, 2), x and y; transpose them")
        kept = [points[i] for i in evenly(len(points), MAX_ROWS // max(len(series), 1))]
        placed = [(drawable(x, log=False), drawable(y, log=False)) for x, y in kept]
        rows += [
            {"x": x, "y": y, "order": i, "series": name} for i, (x, y) in enumerate(placed) if x is not None and y is not None
        ]
    spec = specification(
        rows,
        height,
        mark={"type": "line", "strokeWidth": 1.5},
        encoding={
            "x": linear("x", x_title),
            "y": linear("y", y_title),
            "order": {"field": "order", "type": "quantitative"},
            "color": by_name("series", list(series), "stroke"),
            "tooltip": [{"field": "series"}, {"field": "x", "title": x_title}, {"field": "y", "title": y_title}],
        },
    )
    return Chart(spec, alt=f"{y_title} against {x_title}: {', '.join(series)}", caption=caption)
