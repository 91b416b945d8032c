"""Pictures of regions: colours by label, names below, darkening, refusals."""

import numpy as np
import pytest

from deepforward.errors import InvalidOption, ShapeError
from deepforward.report import Page, render
from deepforward.report.figures import regions
from deepforward.report.figures.regions import COLOURS


def test_each_region_has_its_colour_and_its_name():
    labels = np.array([[0, 1, 2], [-1, 0, -2]])
    picture = regions(labels, ["a", "b", "c"], caption="Where it ends.")
    assert picture.pixels.shape == (1, 3, 2, 3) and picture.pixels.dtype == np.uint8
    for (y, x), label in np.ndenumerate(labels):
        expected = list(COLOURS.values())[label] if label >= 0 else (128, 128, 128)
        assert tuple(picture.pixels[0, :, y, x]) == expected
    assert picture.caption == "Where it ends. Blue: a; orange: b; green: c; grey: none."
    assert "Blue: a; orange: b" in render(Page("regions", blocks=[picture]))


def test_depth_darkens():
    depth = np.array([[0.0, 1.0]])
    picture = regions(np.zeros((1, 2), int), ["all"], depth=depth).pixels[0]
    assert tuple(picture[:, 0, 0]) == COLOURS["blue"]
    assert np.allclose(picture[:, 0, 1], np.array(COLOURS["blue"]) / 4, atol=0.5)
    assert "grey" not in regions(np.zeros((1, 2), int), ["all"]).caption


def test_refusals():
    with pytest.raises(InvalidOption, match="at most 7 regions"):
        regions(np.zeros((2, 2), int), list("abcdefgh"))
    with pytest.raises(InvalidOption, match="labels up to 3"):
        regions(np.full((2, 2), 3), ["a"])
    with pytest.raises(ShapeError, match=r"labels \(2, 2\) and depth \(1, 2\)"):
        regions(np.zeros((2, 2), int), ["a"], depth=np.zeros((1, 2)))
