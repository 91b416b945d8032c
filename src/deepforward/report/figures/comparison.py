"""Before and after: paired trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepforward.errors import ShapeError
from deepforward.report.blocks import Chart
from deepforward.report.figures.specification import linear, significant, specification


def paired_trials(
    names: Sequence[str], before: Sequence[float], after: Sequence[float], quantity: str, caption: str = ""
) -> Chart:
    """A line from the value before to the value after for each pair; pairs of one name stand together.

    Args:
        names: Name of each pair, such as the prescription; one name for all its seeds.
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
    seen: Counter[str] = Counter()
    pairs: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    for name, b, a in zip(names, before, after, strict=True):
        pair: dict[str, Any] = {"pair": name, "place": seen[name], "before": _finite(b), "after": _finite(a)}
        seen[name] += 1
        ends += [{**pair, "when": when, "value": pair[when]} for when in ("before", "after") if pair[when] is not None]
        if np.isfinite(b) and np.isfinite(a):
            pairs.append(pair)
    tooltip = [{"field": "pair", "title": "trial"}, {"field": "before"}, {"field": "after"}]
    when = {"field": "when", "type": "nominal", "title": None}
    change = {
        "data": {"values": pairs},
        "mark": {"type": "rule", "strokeWidth": 1.5},
        "encoding": {"x": linear("before", quantity), "x2": {"field": "after"}, "tooltip": tooltip},
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
        "encoding": {
            "x": linear("value", quantity),
            "color": {**when, "scale": {"domain": ["before", "after"], "range": "category"}},
            "shape": {**when, "scale": {"domain": ["before", "after"], "range": ["diamond", "circle"]}},
            "tooltip": tooltip,
        },
    }
    axis = {"labelExpr": "split(datum.label, ' ')", "labelPadding": 12, "ticks": False, "domain": False}
    rows = {"domain": list(seen), "paddingInner": 0.25}
    position = {
        "y": {"field": "pair", "type": "nominal", "title": None, "axis": axis, "scale": rows},
        "yOffset": {"field": "place", "type": "ordinal", "scale": {"domain": list(range(max(seen.values(), default=0)))}},
    }
    better = sum(a > b for a, b in zip(after, before, strict=True))
    alt = f"{quantity} before and after, {len(names)} pairs; higher after in {better} of them"
    height = max(80, 15 * len(names) + 14 * len(seen))
    return Chart(specification(ends, height, encoding=position, layer=[change, points]), alt=alt, caption=caption)


def _finite(x: float) -> float | None:
    return significant(x) if np.isfinite(x) else None
