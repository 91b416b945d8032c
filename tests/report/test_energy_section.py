"""The page of a model with an energy, drawn from plain arrays."""

import dataclasses

import energy_run
import numpy as np
import pytest

from deepforward.report import Chart, Facts, Heading, Images, RunRecord, Table, render, run_page
from deepforward.report.energy_section import energy_section
from deepforward.report.plain import MINUS


@pytest.fixture(scope="module")
def dreaming() -> RunRecord:
    return energy_run.record()


def headings(record: RunRecord) -> list[str]:
    return [block.text for block in run_page(record).blocks if isinstance(block, Heading)]


def grid(record: RunRecord, beginning: str) -> Images:
    grids = [block for block in energy_section(record) if isinstance(block, Images)]
    return next(images for images in grids if images.caption.startswith(beginning))


def chart(record: RunRecord, words: str) -> Chart:
    return next(block for block in run_page(record).blocks if isinstance(block, Chart) and words in block.alt)


def test_its_sections_stand_between_training_and_data(dreaming):
    assert headings(dreaming) == [
        "Pretraining",
        "Training",
        "What the model dreams",
        "What it makes of examples",
        "Free energy and likelihood",
        "Hidden units and weights",
        "Data",
        "Recipe and versions",
    ]


def test_a_supervised_run_has_none_of_them(vanishing):
    assert list(energy_section(vanishing)) == []
    assert "Pretraining" not in headings(vanishing)


def test_the_verdict_tells_likelihood_and_reconstruction(dreaming):
    numbers = run_page(dreaming).blocks[0].numbers
    assert numbers == {
        "test log-likelihood, nats": f"{MINUS}23.7",
        "its 95% interval": f"{MINUS}23.8 to {MINUS}23.5",
        "test reconstruction, squared error a unit": "0.0912",
    }


def test_an_exact_likelihood_says_so_and_a_missing_one_leaves_its_proxy(dreaming):
    ends = {"test/log_likelihood_low": -23.7, "test/log_likelihood_high": -23.7}
    exact = run_page(dataclasses.replace(dreaming, metrics={**dreaming.metrics, **ends})).blocks[0].numbers
    assert exact["test log-likelihood, nats, exact"] == f"{MINUS}23.7"
    without = {name: x for name, x in dreaming.metrics.items() if "/log_likelihood" not in name}
    proxy = run_page(dataclasses.replace(dreaming, metrics=without)).blocks[0].numbers
    assert list(proxy) == ["test reconstruction, squared error a unit", "test pseudo log-likelihood, nats"]


def test_the_loss_that_means_nothing_is_not_shown(dreaming):
    def shown(record):
        blocks = run_page(record).blocks
        final = next(block for block in blocks if isinstance(block, Facts) and block.caption == "Final metrics")
        return [block.alt.partition(" by epoch")[0] for block in blocks if isinstance(block, Chart)], list(final.facts)

    charts, metrics = shown(dreaming)
    assert "loss" not in charts
    assert "train loss" not in metrics
    charts, metrics = shown(dataclasses.replace(dreaming, descends=True))
    assert "loss" in charts
    assert "train loss" in metrics
    assert charts.count("free_energy") == 1


def test_final_metrics_have_their_interval_and_unit_in_one_line(dreaming):
    final = next(block for block in run_page(dreaming).blocks if isinstance(block, Facts) and block.caption == "Final metrics")
    assert final.facts["test log-likelihood"] == f"{MINUS}23.7 nats (95% interval {MINUS}23.8 to {MINUS}23.5)"
    assert final.facts["test pseudo log-likelihood"] == f"{MINUS}16.2 nats"
    assert not [name for name in final.facts if name.endswith(("low", "high"))]


def test_each_chain_is_a_row_of_its_moments(dreaming):
    chains = grid(dreaming, "A few of these chains")
    assert (chains.columns, chains.rows[0], len(chains.rows)) == (10, "chain 1", 8)
    assert (chains.pixels[13] == dreaming.portrait["chains"][1, 3]).all()


def test_each_epoch_is_a_row_of_the_same_chains(dreaming):
    way = grid(dreaming, "How the dreams changed")
    assert list(way.rows) == [f"epoch {epoch}" for epoch in dreaming.snapshots]
    assert (way.pixels[8 * 3 + 2] == dreaming.snapshots[4]["samples"][2]).all()
    few = {epoch: {"samples": shown["samples"][:3]} for epoch, shown in dreaming.snapshots.items()}
    assert grid(dataclasses.replace(dreaming, snapshots=few), "How the dreams changed").columns == 3


def test_of_many_snapshots_as_many_rows_are_shown_as_a_grid_holds(dreaming):
    many = dict.fromkeys(range(1, 41), dreaming.snapshots[1])
    way = grid(dataclasses.replace(dreaming, snapshots=many), "How the dreams changed")
    assert len(way.rows) == 12
    assert (way.rows[0], way.rows[-1]) == ("epoch 1", "epoch 40")
    assert "are not shown" not in render(run_page(dataclasses.replace(dreaming, snapshots=many)))


def test_examples_stand_above_what_is_made_of_them(dreaming):
    completions = grid(dreaming, "Test examples of which")
    assert (completions.rows, completions.columns) == (("given", "completed", "whole"), 12)
    assert (completions.pixels[12 + 5] == dreaming.portrait["completions"][5, 1]).all()


def test_the_gap_is_held_out_minus_training(dreaming):
    rows = chart(dreaming, "gap of the free energy").spec["data"]["values"]
    assert rows[0]["value"] == pytest.approx(1.0)
    assert rows[-1]["value"] == pytest.approx(1 + 3 * (1 - np.exp(-3)), rel=1e-4)
    lost = [{**dreaming.history[0], "validation/free_energy": None}, dreaming.history[1]]
    rows = chart(dataclasses.replace(dreaming, history=lost), "gap of the free energy").spec["data"]["values"]
    assert [row["epoch"] for row in rows] == [2]


def test_negative_curves_are_not_pressed_against_zero(dreaming):
    assert chart(dreaming, "free_energy by epoch").spec["encoding"]["y"]["scale"]["zero"] is False
    assert chart(dreaming, "reconstruction by epoch").spec["encoding"]["y"]["scale"]["zero"] is True


def likelihoods(record: RunRecord) -> Table:
    return next(block for block in energy_section(record) if isinstance(block, Table))


def test_likelihoods_say_their_interval_and_what_they_were_measured_on(dreaming):
    table = likelihoods(dreaming)
    assert table.rows == [
        ["log Z", 78.61, "78.4 to 78.7"],
        ["test log-likelihood", -23.7, f"{MINUS}23.8 to {MINUS}23.5"],
    ]
    assert "drawn 0 or 1" in table.caption
    threshold = {**dreaming.recipe, "objective_options": {"binarize": "threshold"}}
    assert "above one half" in likelihoods(dataclasses.replace(dreaming, recipe=threshold)).caption


@pytest.mark.parametrize(
    ("kind", "says"),
    [("binary", "drawn 0 or 1"), ("softmax", "drawn one of its categories"), ("gaussian", "Of a density of the scaled data")],
)
def test_likelihoods_are_told_in_the_words_of_the_visible_units(dreaming, kind, says):
    recipe = {**dreaming.recipe, "model_options": {"visible": kind}}
    caption = likelihoods(dataclasses.replace(dreaming, recipe=recipe)).caption
    assert says in caption
    assert ("drawn" in caption) == (kind != "gaussian")
    assert "ixel" not in caption


def test_only_binary_units_are_always_on(dreaming):
    rectified = {**dreaming.recipe, "model_options": {"hidden_kind": "relu"}}
    said = [
        chart(dataclasses.replace(dreaming, recipe=recipe), "mean activity").caption for recipe in (dreaming.recipe, rectified)
    ]
    assert ["always on" in caption for caption in said] == [True, False]
    shares = chart(dataclasses.replace(dreaming, recipe=rectified), "share of the hidden units").spec["data"]["values"]
    assert "always on" not in str(shares)
    assert "always on" in str(chart(dreaming, "share of the hidden units").spec["data"]["values"])


def test_a_bound_is_called_one_and_an_open_interval_open(dreaming):
    nan = float("nan")
    bound = {"test/log_likelihood_bound": -90.0, "test/log_likelihood_bound_low": -91.5, "test/log_likelihood_bound_high": nan}
    table = likelihoods(dataclasses.replace(dreaming, metrics=bound))
    assert table.rows == [["test log-likelihood bound", -90.0, f"at least {MINUS}91.5"]]
    assert "at least the bound" in table.caption


def test_free_energies_of_train_and_test_share_bins_and_sum_to_one(dreaming):
    rows = chart(dreaming, "Histograms of free energy").spec["data"]["values"]
    by_group = {name: [row for row in rows if row["group"] == name] for name in ("train", "test")}
    assert [row["from"] for row in by_group["train"]] == [row["from"] for row in by_group["test"]]
    assert all(sum(row["share"] for row in group) == pytest.approx(1.0, abs=1e-3) for group in by_group.values())


def test_receptive_fields_take_the_place_of_filters(dreaming):
    assert grid(dreaming, "Receptive fields").contrast == "each"
    assert "First-layer filters" not in headings(dreaming)


def test_shares_of_one_and_zero_are_white_and_black_in_the_map(dreaming):
    values = np.array([[0.0, 1.0], [0.5, 0.45]])
    record = dataclasses.replace(dreaming, portrait={**dreaming.portrait, "activity_map": values})
    assert grid(record, "Activity of 2 hidden units").pixels.tolist() == [[[[0, 255], [128, 115]]]]
    rectified = dataclasses.replace(dreaming, portrait={**dreaming.portrait, "activity_map": 3 * values})
    assert grid(rectified, "Activity of 2 hidden units").pixels.max() == 3.0


def test_stages_tell_their_folder_and_final_metrics(dreaming):
    table = next(block for block in run_page(dreaming).blocks if isinstance(block, Table))
    assert table.rows == [
        [
            "pretraining-1",
            "finished",
            5,
            "test reconstruction 0.12 squared error a unit",
            {"epochs": 5, "objective_options": {"steps": 1}},
        ]
    ]
    assert "deepforward report RUN/pretraining-1" in table.caption


def test_each_part_of_the_portrait_can_be_missing(dreaming):
    whole = len(list(energy_section(dreaming)))
    for name in dreaming.portrait:
        rest = {other: values for other, values in dreaming.portrait.items() if other != name}
        record = dataclasses.replace(dreaming, portrait=rest)
        assert len(list(energy_section(record))) == whole - (not name.startswith("free_energy"))
        render(run_page(record))


def test_an_unfinished_run_shows_what_its_history_tells(dreaming):
    record = RunRecord(recipe={}, history=dreaming.history, status="not finished", descends=False)
    assert headings(record)[1:4] == ["What the model dreams", "Free energy and likelihood", "Hidden units and weights"]
    assert not [block for block in run_page(record).blocks if isinstance(block, Images)]


def test_the_page_stays_small(dreaming):
    rng = np.random.default_rng(0)
    large = {
        name: rng.integers(0, 256, (*values.shape[:-3], 3, 96, 96), dtype=np.uint8) if values.ndim > 3 else values
        for name, values in dreaming.portrait.items()
    }
    assert len(render(run_page(dataclasses.replace(dreaming, portrait=large))).encode()) < 4_000_000
