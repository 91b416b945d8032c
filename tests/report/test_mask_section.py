"""Masks in the report, from plain arrays."""

import numpy as np
import pytest

from deepforward.report import Chart, Heading, Images, MaskRecord, RunRecord, Table, render, run_page
from deepforward.report.figures.regions import COLOURS
from deepforward.report.mask_section import mask_section, painted

TRUE = np.array([[[0, 0, 1, 1], [0, 255, 1, 1]]], np.uint8)
GIVEN = np.array([[[0, 1, 1, 1], [0, 0, 1, 0]]], np.uint8)
CONFUSION = np.array([[2, 1, 0], [1, 3, 0], [0, 0, 0]])


def record(**changes) -> RunRecord:
    masks = MaskRecord(images=np.full((1, 1, 2, 4), 7, np.uint8), true=TRUE, predicted=GIVEN, confusion=CONFUSION)
    return RunRecord(recipe={"model": "hdc-duc"}, classes=("paper", "ink", "stain"), masks=masks, **changes)


def test_image_and_masks_stand_in_rows_and_colours_have_names():
    grid, legend = (block for block in mask_section(record()) if isinstance(block, Images))
    assert grid.rows == ("image", "true", "predicted")
    assert np.array_equal(grid.pixels[0], np.full((3, 2, 4), 7))
    assert grid.pixels[1][:, 1, 1].tolist() == [128, 128, 128]
    assert np.array_equal(grid.pixels[1:], np.concatenate([painted(TRUE), painted(GIVEN)]))
    assert grid.caption.endswith("grey: not asked.")
    assert list(legend.captions) == ["paper", "ink", "stain"]
    assert [tuple(field[:, 0, 0]) for field in legend.pixels] == list(COLOURS.values())[:3]


def test_colours_differ_for_as_many_classes_as_there_are_names_for_in_the_legend():
    colours = painted(np.arange(22, dtype=np.uint8)[:, None, None])[:, :, 0, 0]
    assert len({tuple(colour) for colour in colours[:21].tolist()}) == 21
    assert (colours[21] == colours[0]).all()


def test_overlap_is_that_of_the_confusion_matrix():
    (table,) = (block for block in mask_section(record()) if isinstance(block, Table))
    assert table.rows[0] == ["paper", 2 / 4, 2 / 3, 2 / 3, 3 / 7]
    assert table.rows[1] == ["ink", 3 / 5, 3 / 4, 3 / 4, 4 / 7]
    assert table.rows[2][0] == "stain" and np.isnan(table.rows[2][1:4]).all()
    assert table.rows[3][:2] == ["mean", pytest.approx((2 / 4 + 3 / 5) / 2)]


def test_the_page_has_the_section_and_pixels_are_counted_as_pixels():
    page = run_page(record())
    assert [block.text for block in page.blocks if isinstance(block, Heading)].count("Masks") == 1
    (chart,) = (block for block in mask_section(record()) if isinstance(block, Chart))
    assert "of 7 pixels" in chart.alt
    assert "<img" in render(page)


def test_a_run_without_masks_has_no_section():
    assert list(mask_section(RunRecord(recipe={"model": "perceptron"}))) == []
