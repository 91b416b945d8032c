"""The page of features from plain values."""

import numpy as np

from deepforward.report import Chart, Heading, Images, Table, render
from deepforward.report.feature_page import FeatureRecord, LayerFeatures, feature_page


def layer(name: str, size: int, **fields) -> LayerFeatures:
    return LayerFeatures(
        name, "Conv2d", (4, 8, 8), (size, size), (1.0, 1.0), fields.pop("sees_all", False), effective=size - 0.5, **fields
    )


def test_a_record_with_everything_is_drawn_from_simple_to_complex():
    pictures = {"made": np.zeros((2, 1, 3, 3), np.uint8), "found 1": np.ones((2, 1, 3, 3), np.uint8)}
    images = np.zeros((2, 3, 8, 8), np.uint8)
    record = FeatureRecord(
        "a net on data",
        [
            layer("first", 3, channels=[0, 3], pictures=pictures, probe_error=0.2, influence=np.zeros((8, 8), np.uint8)),
            layer("last", 9, sees_all=True, probe_error=0.05, silent=0.25),
        ],
        input_error=0.4,
        own_error=0.06,
        filters=np.zeros((4, 1, 3, 3)),
        examples=images,
        captions=["cat 90%", "dog (it is cat) 60%"],
        maps={"occlusion": images[:, :1]},
    )
    page = feature_page(record)
    headings = [block.text for block in page.blocks if isinstance(block, Heading)]
    assert headings.index("From simple to complex") < headings.index("1: first") < headings.index("Where the network looks")
    assert not any(heading.startswith("2:") for heading in headings)
    html = render(page)
    for words in ("40.0%", "5.0% by last", "3 x 3 pixels", "the whole image", "0, 3 of 4", "dog (it is cat) 60%", "25%"):
        assert words in html, words
    grids = [block for block in page.blocks if isinstance(block, Images)]
    assert [grid.rows for grid in grids[-2:]] == [["made", "found 1"], ["image", "occlusion"]]


def test_what_was_not_measured_is_left_out():
    page = feature_page(FeatureRecord("a net", [layer("only", 3)]))
    assert [type(block) for block in page.blocks if isinstance(block, (Chart, Table, Images))] == [Table, Chart]
    assert "linear classifier errs" not in render(page)
