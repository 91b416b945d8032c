"""What all charts share: the frame of a Vega-Lite specification, and thinning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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


def linear(field: str, title: str, values: Iterable[float | None] = (), zero: bool = False) -> dict[str, Any]:
    """The encoding of a number by position; `values` stand for those of `logarithmic`."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero}, "axis": {"tickCount": 8}}


def logarithmic(field: str, title: str, values: Iterable[float | None]) -> dict[str, Any]:
    """The encoding of a positive number by position, with ticks at powers of ten; `values` are those that will be drawn.

    Without any, a linear axis takes its place: a logarithmic one cannot be empty.
    """
    decades = [math.log10(value) for value in values if value is not None]
    if not decades:
        return linear(field, title)
    low, high = max(math.floor(min(decades)), -307), min(math.ceil(max(decades)), 308)
    high = max(high, low + 1)
    ticks = [float(f"1e{k}") for k in range(low, high + 1, math.ceil((high - low) / 6))]
    scale = {"type": "log", "domain": [float(f"1e{low}"), float(f"1e{high}")], "nice": False}
    axis = {"values": ticks, "labelExpr": _POWERS}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def by_name(field: str, names: Sequence[str], symbol: str = "circle") -> dict[str, Any]:
    """Colour by name in the order of `names`; a single name needs no legend."""
    scale = {"domain": list(names), "range": "category"}
    size = 220 if symbol == "stroke" else 70
    # Opaque, because a band is not, and the legend would be as pale.
    legend = {"symbolType": symbol, "symbolSize": size, "symbolOpacity": 1} if len(names) > 1 else None
    return {"field": field, "type": "nominal", "title": None, "scale": scale, "legend": legend}
