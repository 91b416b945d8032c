"""Before and after: paired trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepforward.errors import ShapeError
from deepforward.report.blocks import Chart
from deepforward.report.figures.specification import quantitative, significant, specification


def paired_trials(
    names: Sequence[str], before: Sequence[float], after: Sequence[float], quantity: str, caption: str = ""
) -> Chart:
    """A line from the value before to the value after for each pair.

    Args:
        names: Names of the pairs, such as the prescription and the seed.
        before: First values of the pairs; a value that is not finite has no mark.
        after: Second values of the pairs.
        quantity: What the values are, with its unit.
        caption: What to see in it.

    Raises:
        ShapeError: The three are not of one length.
    """
    if not len(names) == len(before) == len(after):
        raise ShapeError(
            f"got {len(names)} names, {len(before)} values before and {len(after)} after; expected one of each a pair"
        )
    rows = [
        {"pair": name, "before": _finite(b), "after": _finite(a), "when": when, "value": _finite(value)}
        for name, b, a in zip(names, before, after, strict=True)
        for when, value in (("before", b), ("after", a))
    ]
    pair = {
        "field": "pair",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"labelLimit": 150, "ticks": False, "domain": False},
    }
    tooltip = [{"field": "pair"}, {"field": "before"}, {"field": "after"}]
    change = {
        "transform": [{"filter": "datum.when === 'after' && isValid(datum.before) && isValid(datum.after)"}],
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {"x": quantitative("before", quantity), "x2": {"field": "after"}, "tooltip": tooltip},
    }
    ends = {
        "transform": [{"filter": "isValid(datum.value)"}],
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
        "encoding": {
            "x": quantitative("value", quantity),
            "color": {
                "field": "when",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["after", "before"], "range": "category"},
            },
            "shape": {
                "field": "when",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["after", "before"], "range": ["circle", "diamond"]},
            },
            "tooltip": tooltip,
        },
    }
    height = max(70, 26 * len(set(names)))
    better = sum(a > b for a, b in zip(after, before, strict=True))
    alt = f"{quantity} before and after, {len(names)} pairs; higher after in {better} of them"
    return Chart(specification(rows, height, encoding={"y": pair}, layer=[change, ends]), alt=alt, caption=caption)


def _finite(x: float) -> float | None:
    return significant(x) if np.isfinite(x) else None
