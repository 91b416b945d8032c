"""The confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepforward.errors import ShapeError
from deepforward.report.blocks import Chart
from deepforward.report.figures.specification import specification

MAX_CLASSES = 40


def confusion_matrix(counts: np.ndarray, classes: Sequence[str], caption: str = "", unit: str = "examples") -> Chart:
    """Counts by true and predicted class, shaded by the share of the true class; counts of five digits are written as shares.

    Of more than `MAX_CLASSES` classes those with the most errors are shown, and the caption says so.

    Args:
        counts: (true class, predicted class), non-negative integers.
        classes: Names by index; `0`, `1`, ... where there are none.
        caption: What to see in it.
        unit: What is counted.

    Raises:
        ShapeError: `counts` is not square, or there is not one name for each class.
    """
    counts = np.asarray(counts)
    number = len(counts)
    names = list(classes) or [str(i) for i in range(number)]
    if counts.shape != (number, number) or len(names) != number:
        raise ShapeError(
            f"got counts of shape {counts.shape} and {len(names)} class names; expected (classes, classes) and a name for each"
        )
    wrong = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    shown = np.sort(np.argsort(-wrong, kind="stable")[:MAX_CLASSES])
    totals = np.maximum(counts.sum(1), 1)
    rows = [
        {"t": names[t], "p": names[p], "n": int(counts[t, p]), "share": round(float(counts[t, p] / totals[t]), 4)}
        for t in shown
        for p in shown
    ]
    order = [names[i] for i in shown]
    axis = {"ticks": False, "domain": False}
    position = {
        "x": {
            "field": "p",
            "type": "nominal",
            "sort": order,
            "title": "predicted",
            "axis": {**axis, "labelAngle": -45 if max(map(len, order), default=0) > 3 else 0},
        },
        "y": {"field": "t", "type": "nominal", "sort": order, "title": "true", "axis": axis},
    }
    tooltip = [
        {"field": "t", "title": "true"},
        {"field": "p", "title": "predicted"},
        {"field": "n", "title": unit},
        {"field": "share", "title": "of the true class", "format": ".1%"},
    ]
    cells = {
        "mark": {"type": "rect"},
        "encoding": {
            "fillOpacity": {
                "field": "share",
                "type": "quantitative",
                "scale": {"domain": [0, 1], "range": [0.03, 1]},
                "legend": None,
            },
            "tooltip": tooltip,
        },
    }
    layer = [cells]
    written = {"field": "share", "type": "quantitative", "format": ".0%"} if counts.max(initial=0) > 9999 else {"field": "n"}
    if len(shown) <= 12:
        layer += [
            {
                "transform": [{"filter": test}],
                "mark": {"type": "text", "fontSize": 11, "style": style},
                "encoding": {"text": written},
            }
            for test, style in (("datum.n > 0 && datum.share <= 0.5", "ink"), ("datum.n > 0 && datum.share > 0.5", "on-ink"))
        ]
    spec = specification(rows, int(np.clip(30 * len(shown), 120, 480)), encoding=position, layer=layer)
    accuracy = counts.diagonal().sum() / max(counts.sum(), 1)
    note = f"The {MAX_CLASSES} of {number} classes with the most errors." if number > MAX_CLASSES else ""
    alt = f"Confusion matrix of {number} classes; {accuracy:.1%} of {counts.sum()} {unit} are on the diagonal"
    return Chart(spec, alt=alt, caption=f"{caption} {note}".strip(), half=number <= 12)
