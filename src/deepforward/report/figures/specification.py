"""What all charts share: the frame of a Vega-Lite specification, and thinning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

#: Rows that one chart may hold; figures thin their data to it and say so, so that a page stays small.
MAX_ROWS = 3000


def specification(values: Sequence[Mapping[str, Any]], height: int, **parts: Any) -> dict[str, Any]:
    """A specification as wide as its place, with its data inside."""
    return {"$schema": SCHEMA, "width": "container", "height": height, "data": {"values": list(values)}, **parts}


#: Label of a logarithmic axis: numbers near 1 as such, others by their exponent.
_POWERS = "datum.value >= 0.001 && datum.value <= 10000 ? format(datum.value, '~g') : format(datum.value, '~e')"


def evenly(count: int, limit: int) -> list[int]:
    """At most `limit` of the indices 0..count-1, evenly spread, first and last among them."""
    if count <= limit:
        return list(range(count))
    return np.linspace(0, count - 1, limit).round().astype(int).tolist()


def significant(x: float) -> float:
    """`x` with the five significant digits that a chart can show."""
    return float(f"{x:.5g}")


def spans_decades(values: Sequence[float]) -> bool:
    """Whether positive values range so far that a logarithmic axis shows them better."""
    return bool(values) and min(values) > 0 and max(values) > 50 * min(values)


def quantitative(field: str, title: str, log: bool = False, zero: bool = False) -> dict[str, Any]:
    """The encoding of a number by position."""
    scale = {"type": "log"} if log else {"zero": zero}
    axis = {"tickCount": 6, "labelExpr": _POWERS} if log else {"tickCount": 8}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def by_name(field: str, names: Sequence[str], symbol: str = "circle") -> dict[str, Any]:
    """Colour by name in the order of `names`; a single name needs no legend."""
    scale = {"domain": list(names), "range": "category"}
    legend = {"symbolType": symbol, "symbolSize": 220 if symbol == "stroke" else 70} if len(names) > 1 else None
    return {"field": field, "type": "nominal", "title": None, "scale": scale, "legend": legend}
