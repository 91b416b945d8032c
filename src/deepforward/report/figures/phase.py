"""The phase picture: order and chaos in the plane of sigma_w and sigma_b, the edge between them, and networks upon it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepforward.errors import ShapeError
from deepforward.report.blocks import Chart
from deepforward.report.figures.curves import drawable
from deepforward.report.figures.depth import CLASSES, NOT_FINITE, classify
from deepforward.report.figures.specification import linear, significant, specification

#: Layers over which the colour tells the growth of the gradient.
DEPTH = 50


def phase_picture(
    sigma_w: Sequence[float] | np.ndarray,
    sigma_b: Sequence[float] | np.ndarray,
    chi: np.ndarray,
    *,
    edge: tuple[Sequence[float], Sequence[float]] = ((), ()),
    points: Sequence[tuple[str, float, float]] = (),
    depth: int = DEPTH,
    caption: str = "",
) -> Chart:
    """Growth of the mean square gradient over `depth` layers by sigma_w and sigma_b, in the classes of heat maps.

    Args:
        sigma_w: Centres of the columns, square roots of fan_in * Var W, evenly spaced; at least two.
        sigma_b: Centres of the rows, deviations of the biases, evenly spaced; at least two.
        chi: (rows, columns), growth a layer, positive.
        edge: sigma_w and sigma_b of the points of the critical line, in its order; one point is drawn as a point.
        points: Label, sigma_w and sigma_b of each network; one outside the picture is drawn at its border.
        depth: Layers over which growth is told.
        caption: What to see in it.

    Raises:
        ShapeError: `chi` does not have one row for each sigma_b and one column for each sigma_w, or there are fewer than two.
    """
    weights, biases, chi = (np.asarray(array, np.float64) for array in (sigma_w, sigma_b, chi))
    if min(len(weights), len(biases)) < 2 or chi.shape != (len(biases), len(weights)):
        raise ShapeError(
            f"got chi of shape {chi.shape} for {len(biases)} sigma_b and {len(weights)} sigma_w; expected (sigma_b, sigma_w), "
            "at least two each; transpose?"
        )
    x, y = _borders(weights), _borders(biases)
    with np.errstate(over="ignore"):
        growth = chi**depth
    kinds = [[classify(float(value)) for value in row] for row in growth]
    left, low = ([significant(float(border)) for border in borders] for borders in (x, y))
    cells = [
        {
            "x": left[i],
            "x2": left[i + 1],
            "y": low[j],
            "y2": low[j + 1],
            "c": kinds[j][i],
            "chi": drawable(value, log=False),
        }
        for j, row in enumerate(chi.tolist())
        for i, value in enumerate(row)
    ]
    shown = sorted({kind for row in kinds for kind in row} - {NOT_FINITE})
    legend = list(range(shown[0], shown[-1] + 1)) if shown else []
    frame = ((float(x[0]), float(x[-1])), (float(y[0]), float(y[-1])))
    layers = [_cells(legend, depth, frame)]
    line = [{"w": significant(w), "b": significant(b), "at": at} for at, (w, b) in enumerate(zip(*edge, strict=True))]
    line = [row for row in line if frame[0][0] <= row["w"] <= frame[0][1] and frame[1][0] <= row["b"] <= frame[1][1]]
    if line:
        layers += _edge(line)
    if points:
        layers += _networks(points, frame)
    chaotic = float((chi > 1).mean())
    alt = f"Phases by sigma_w and sigma_b: {chaotic:.0%} of the picture is chaos, {len(points)} networks are marked"
    return Chart(specification(cells, 280, layer=layers), alt=alt, caption=caption, half=True)


def _borders(centres: np.ndarray) -> np.ndarray:
    """Borders of cells; the first cell begins at its centre, since no deviation is negative."""
    between = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([centres[:1], between, centres[-1:]])


def _axes(x: str, y: str, frame: tuple[tuple[float, float], tuple[float, float]]) -> dict[str, Any]:
    titles = ("weights: √(fan-in · Var W)", "biases: √(Var b)")
    return {
        side: {**linear(name, title), "scale": {"domain": list(ends), "nice": False, "zero": False}, "axis": {"grid": False}}
        for side, name, title, ends in zip("xy", (x, y), titles, frame, strict=True)
    }


def _cells(legend: list[int], depth: int, frame: tuple[tuple[float, float], tuple[float, float]]) -> dict[str, Any]:
    color = {
        "field": "c",
        "type": "ordinal",
        "title": f"gradient, {depth} layers down",
        "scale": {"domain": list(range(len(CLASSES))), "range": "diverging"},
        "legend": {"values": legend, "symbolType": "square", "labelExpr": f"{list(CLASSES)}[datum.value]"},
    }
    tooltip = [{"field": "x", "title": "weights"}, {"field": "y", "title": "biases"}, {"field": "chi", "title": "χ"}]
    position = {**_axes("x", "y", frame), "x2": {"field": "x2"}, "y2": {"field": "y2"}}
    return {"mark": {"type": "rect", "clip": True}, "encoding": {**position, "color": color, "tooltip": tooltip}}


def _edge(line: list[dict[str, Any]]) -> list[dict[str, Any]]:
    place = {"x": {"field": "w", "type": "quantitative"}, "y": {"field": "b", "type": "quantitative"}}
    alone = len({(row["w"], round(row["b"], 6)) for row in line}) == 1
    mark = {"type": "point", "filled": True, "size": 90} if alone else {"type": "line", "clip": True, "strokeDash": [6, 3]}
    order = {} if alone else {"order": {"field": "at", "type": "quantitative"}}
    values = line[:1] if alone else line
    return [{"data": {"values": values}, "mark": {**mark, "style": "ink", "opacity": 1}, "encoding": {**place, **order}}]


def _networks(
    networks: Sequence[tuple[str, float, float]], frame: tuple[tuple[float, float], tuple[float, float]]
) -> list[dict[str, Any]]:
    values = [
        {
            "network": label,
            "w": significant(w),
            "b": significant(b),
            "atw": significant(float(np.clip(w, *frame[0]))),
            "atb": significant(float(np.clip(b, *frame[1]))),
        }
        for label, w, b in networks
        if np.isfinite(w) and np.isfinite(b)
    ]
    place: dict[str, Any] = {"x": {"field": "atw", "type": "quantitative"}, "y": {"field": "atb", "type": "quantitative"}}
    tooltip = [{"field": "network"}, {"field": "w", "title": "weights"}, {"field": "b", "title": "biases"}]
    mark = {"type": "point", "shape": "diamond", "filled": True, "size": 110, "opacity": 1, "style": "ink"}
    middle = sum(frame[0]) / 2
    labels: list[dict[str, Any]] = [
        {
            "data": {"values": values},
            "transform": [{"filter": test}],
            "mark": {"type": "text", "align": align, "dx": dx, "dy": -9, "fontSize": 12, "fontWeight": 600, "style": style},
            "encoding": {**place, "text": {"field": "network"}},
        }
        for style in ("halo", "ink")
        for test, align, dx in ((f"datum.atw <= {middle}", "left", 6), (f"datum.atw > {middle}", "right", -6))
    ]
    around = {**mark, "size": 170, "style": "halo"}
    points = [{"data": {"values": values}, "mark": m, "encoding": {**place, "tooltip": tooltip}} for m in (around, mark)]
    return [*points, *labels]
