"""Curves that turn back."""

import math

import numpy as np
import pytest

from deepforward.errors import ShapeError
from deepforward.report import Page, render
from deepforward.report.figures import paths


def test_points_keep_their_order():
    chart = paths({"loop": [(0, 0), (1, 1), (0.5, 2), (math.nan, 1), (0, 0)], "line": np.eye(2)}, x_title="x", y_title="y")
    rows = chart.spec["data"]["values"]
    loop = sorted((row for row in rows if row["series"] == "loop"), key=lambda row: row["order"])
    assert [(row["x"], row["y"]) for row in loop] == [(0, 0), (1, 1), (0.5, 2), (0, 0)]
    assert sum(row["series"] == "line" for row in rows) == 2
    assert chart.spec["encoding"]["order"]["field"] == "order"
    assert "loop, line" in render(Page("paths", blocks=[chart]))


def test_long_paths_are_thinned_and_empty_ones_drawn():
    assert len(paths({"a": np.zeros((9000, 2))}, x_title="x", y_title="y").spec["data"]["values"]) == 3000
    assert paths({"a": []}, x_title="x", y_title="y").spec["data"]["values"] == []


def test_points_of_three_coordinates_are_refused():
    with pytest.raises(ShapeError, match=r"shape \(4, 3\) in 'a'"):
        paths({"a": np.zeros((4, 3))}, x_title="x", y_title="y")
