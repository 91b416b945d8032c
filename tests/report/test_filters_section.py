"""The section of a deconvolutional network: filters, reconstructions, sparsity."""

import numpy as np

from deepforward.report import Chart, Heading, Images, RunRecord, render, run_page
from deepforward.report.filters_section import filters_section

LAYERS = np.random.default_rng(0).integers(0, 255, (8, 3, 1, 6, 6), dtype=np.uint8)
ATOMS = np.random.default_rng(1).normal(size=(4, 1, 3, 3))
RECORD = RunRecord(
    recipe={"model": "deconvolutional-network", "data": "digits"},
    portrait={"layers": LAYERS, "atoms/1": ATOMS, "atoms/2": ATOMS},
    history=[{"epoch": 1, "train/zeros": 0.9, "validation/zeros": 0.8}],
)


def test_it_shows_filters_of_each_layer_and_examples_from_each_layer():
    heading, first, second, told, chart = filters_section(RECORD)
    assert isinstance(heading, Heading)
    assert first.contrast == second.contrast == "each"
    assert "layer 2" in second.caption
    assert told.rows == ["test example", "from layer 1", "from layer 2"]
    assert told.columns == 8
    assert np.array_equal(told.pixels[8 + 3], LAYERS[3, 1])
    assert isinstance(chart, Chart)
    assert len(chart.spec["data"]["values"]) == 2


def test_the_page_has_it_and_no_section_of_an_energy():
    page = run_page(RECORD)
    titles = [block.text for block in page.blocks if isinstance(block, Heading)]
    assert "What images are made of" in titles
    assert not {"What the model dreams", "Hidden units and weights"} & set(titles)
    assert render(page)


def test_other_runs_have_none():
    assert list(filters_section(RunRecord(recipe={}))) == []
    without = RunRecord(recipe={}, portrait={"atoms/1": ATOMS})
    assert [type(block) for block in filters_section(without)] == [Heading, Images]
