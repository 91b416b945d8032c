"""Figures that several claims draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepforward.report.blocks import Chart


def lines(
    rows: Sequence[Mapping[str, Any]],
    x: str,
    y: str,
    color: str,
    *,
    alt: str,
    caption: str = "",
    log_x: bool = False,
    log_y: bool = False,
    points: bool = True,
    zero: bool = True,
) -> Chart:
    """One line for each value of the column `color`.

    Args:
        rows: The data, by column name.
        x: Column along the horizontal axis, which it names.
        y: Column along the vertical axis, which it names.
        color: Column that tells the lines apart.
        alt: What the chart shows, for those who cannot see it.
        caption: What to see in it.
        log_x: Logarithmic horizontal axis.
        log_y: Logarithmic vertical axis.
        points: Mark every row.
        zero: Let linear axes include 0.
    """
    return Chart(
        spec={
            "data": {"values": [{key: row[key] for key in (x, y, color)} for row in rows]},
            "mark": {"type": "line", "point": points},
            "encoding": {
                "x": {"field": x, "type": "quantitative", "scale": _scale(log_x, zero)},
                "y": {"field": y, "type": "quantitative", "scale": _scale(log_y, zero)},
                "color": {"field": color, "type": "nominal", "sort": None},
                "tooltip": [{"field": key} for key in (color, x, y)],
            },
        },
        alt=alt,
        caption=caption,
    )


def _scale(log: bool, zero: bool) -> dict[str, Any]:
    return {"type": "log"} if log else {"zero": zero}
