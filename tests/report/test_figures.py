import itertools
import json

import numpy as np
import pytest
from gallery import CHARTS, INF, NAN
from hypothesis import given, settings
from hypothesis import strategies as st

from deepforward.errors import ShapeError
from deepforward.report import figures
from deepforward.report.figures.depth import CLASSES, FACTORS, MAX_LAYERS, MAX_STEPS, NOT_FINITE, classify
from deepforward.report.figures.specification import MAX_ROWS, evenly

vl_convert = pytest.importorskip("vl_convert")
RNG = np.random.default_rng(0)


def rows(chart) -> list[dict]:
    return chart.spec["data"]["values"]


@pytest.mark.parametrize("name", CHARTS)
def test_specification_is_valid_vega_lite_and_draws(name):
    altair = pytest.importorskip("altair")
    spec = CHARTS[name].spec
    json.dumps(spec, allow_nan=False)
    altair.Chart.from_dict(spec | {"data": {"values": rows(CHARTS[name])[:3]}})
    svg = vl_convert.vegalite_to_svg(spec | {"width": 300})
    assert "NaN" not in svg.replace("not finite", "")
    assert svg.count("<path") > 0
    assert CHARTS[name].alt


@given(st.integers(0, 3000), st.integers(2, 500))
def test_thinning_keeps_ends_and_spreads_evenly(count, limit):
    kept = evenly(count, limit)
    assert len(kept) == min(count, limit)
    if count:
        assert (kept[0], kept[-1]) == (0, count - 1)
        gaps = np.diff(kept)
        assert not len(gaps) or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


@given(st.floats(-400, 300))
def test_class_is_that_of_the_nearest_factor_passed(decades):
    ratio = 10.0**decades
    passed = sum(abs(decades) > np.log10(factor) for factor in FACTORS)
    borders = [abs(abs(decades) - np.log10(factor)) < 1e-9 for factor in FACTORS]
    if not any(borders):
        assert classify(ratio) == len(FACTORS) + (passed if ratio > 1 else -passed)


@pytest.mark.parametrize(
    ("ratio", "name"), [(0.0, CLASSES[0]), (1.0, "healthy"), (2.9, "healthy"), (0.2, "< 1/3"), (-50.0, "> 10")]
)
def test_classes_by_name(ratio, name):
    assert CLASSES[classify(ratio)] == name


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_not_finite_has_a_class_of_its_own(bad):
    assert CLASSES[classify(bad)] == "not finite"


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.data())
def test_heat_map_of_any_size_shows_the_one_bad_cell(layers, steps, data):
    layer, step = data.draw(st.integers(0, layers - 1)), data.draw(st.integers(0, steps - 1))
    bad = data.draw(st.sampled_from([NAN, INF, 1e12, 0.0]))
    values = np.ones((steps, layers))
    values[step, layer] = bad
    chart = figures.heat_map([f"l{i}" for i in range(layers)], range(steps), values, quantity="q")
    found = [row for row in rows(chart) if row["c"] != classify(1.0)]
    assert [(row["at"], row["c"]) for row in found] == [(f"l{layer}, step {step}", classify(bad))]
    assert len(rows(chart)) <= MAX_LAYERS * MAX_STEPS
    assert ("worst of up to" in chart.caption) == (len(rows(chart)) < layers * steps)


def test_heat_map_is_relative_to_the_healthy_value():
    chart = figures.heat_map(["a"], [0], np.array([[1e-3]]), quantity="q", healthy=1e-3)
    assert [(row["v"], row["c"]) for row in rows(chart)] == [("0.001", classify(1.0))]


@pytest.mark.parametrize("layers", [1, 2, 8, 30, 31, 47, 56, 59, 60, 500])
def test_names_beside_a_heat_map_have_room_and_include_both_ends(layers):
    spec = figures.heat_map([f"l{i}" for i in range(layers)], [0], np.ones((1, layers)), quantity="q").spec
    drawn = list(dict.fromkeys(row["l"] for row in spec["data"]["values"]))
    named = [drawn.index(name) for name in spec["encoding"]["y"]["axis"]["values"]]
    assert (named[0], named[-1]) == (0, len(drawn) - 1)
    assert all((b - a) * spec["height"] / len(drawn) >= 12 for a, b in itertools.pairwise(named))
    assert layers > 30 or len(named) == layers


def test_legend_of_heat_map_shows_what_is_there():
    chart = figures.heat_map(["a", "b", "c"], [0], np.array([[1e-3, NAN, 1.0]]), quantity="q")
    shown = chart.spec["encoding"]["color"]["legend"]["values"]
    assert [CLASSES[i] for i in shown] == ["< 1/100", "< 1/10", "< 1/3", "healthy", "not finite"]
    assert shown[-1] == NOT_FINITE


def test_training_curves_say_where_the_loss_was_lost():
    history = [{"epoch": 1, "train/loss": 2.0}, {"epoch": 2, "train/loss": INF}, {"epoch": 3, "train/loss": None}]
    chart = figures.training_curves({"deep": history}, "loss")
    assert [row["value"] for row in rows(chart)] == [2.0]
    assert chart.caption == "The train loss of deep is not finite from epoch 2 on."


def test_training_curves_go_logarithmic_over_decades_only():
    def scale(values: list[float]) -> str | None:
        history = [{"train/loss": value} for value in values]
        return figures.training_curves({"": history}, "loss").spec["encoding"]["y"]["scale"].get("type")

    assert scale([2.0, 0.02]) == "log"
    assert scale([2.0, 0.5]) is None
    assert scale([2.0, 0.0]) is None


def test_long_histories_are_thinned_to_their_ends():
    history = [{"epoch": i, "train/loss": 1.0, "validation/loss": 1.0} for i in range(50_000)]
    drawn = rows(figures.training_curves({"": history}, "loss"))
    assert len(drawn) <= MAX_ROWS
    assert {row["epoch"] for row in drawn} >= {0, 49_999}


def test_quantities_in_order_of_appearance():
    assert figures.quantities(
        [{"epoch": 1, "train/loss": 1}, {"learning_rate": 1, "test/accuracy": 1, "gradient_norm/max": 1}]
    ) == [
        "loss",
        "accuracy",
    ]


def test_confusion_of_many_classes_keeps_those_with_errors():
    counts = np.diag(np.full(100, 50))
    counts[3, 97] = 9
    chart = figures.confusion_matrix(counts, [])
    shown = {row["t"] for row in rows(chart)}
    assert {"3", "97"} <= shown
    assert len(shown) == 40
    assert "40 of 100" in chart.caption


def test_shares_of_the_confusion_matrix_sum_to_one_by_true_class():
    counts = RNG.integers(1, 99, (6, 6))
    shares = np.array([row["share"] for row in rows(figures.confusion_matrix(counts, []))]).reshape(6, 6)
    assert np.allclose(shares, counts / counts.sum(1, keepdims=True), atol=5e-5)


def test_pairs_without_a_number_have_no_mark():
    change, _ = CHARTS["trials"].spec["layer"]
    assert [(pair["before"], pair["after"]) for pair in change["data"]["values"]] == [(0.1, 0.9)]
    assert sorted(row["value"] for row in rows(CHARTS["trials"])) == [0.1, 0.1, 0.2, 0.9]


def test_histogram_counts_every_finite_value():
    chart = CHARTS["histogram"]
    assert sum(row["count"] for row in rows(chart)) == 500
    assert "2 values that are not finite" in chart.caption


def test_scatter_is_thinned_and_says_so():
    chart = figures.scatter(np.arange(20_000), np.arange(20_000), x_title="x", y_title="y")
    assert len(rows(chart)) == MAX_ROWS
    assert chart.caption == f"{MAX_ROWS} of 20000 points, evenly thinned."


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.heat_map(["a", "b"], [0], np.ones((2, 1)), quantity="q"),
        lambda: figures.depth_profile(["a"], [0], np.ones(1), quantity="q"),
        lambda: figures.lines([1, 2], {"a": [1]}, x_title="x", y_title="y"),
        lambda: figures.confusion_matrix(np.ones((2, 3)), []),
        lambda: figures.confusion_matrix(np.ones((2, 2)), ["one"]),
        lambda: figures.paired_trials(["a"], [1.0], [], "q"),
        lambda: figures.scatter([1], [], x_title="x", y_title="y"),
    ],
)
def test_shapes_that_do_not_fit_are_named(draw):
    with pytest.raises(ShapeError, match=r"got .* expected"):
        draw()


def test_the_phase_picture_tells_growth_over_its_depth_and_marks_networks_inside_the_frame():
    chi = np.array([[0.5, 1.0], [0.9, 1.02]])
    chart = figures.phase_picture([1, 2], [0, 1], chi, depth=10, points=[("mine", 9.0, 0.5)])
    assert [row["c"] for row in rows(chart)] == [classify(float(value) ** 10) for value in chi.ravel()]
    marks = [layer["data"]["values"] for layer in chart.spec["layer"] if "data" in layer]
    assert marks[0] == [{"network": "mine", "w": 9.0, "b": 0.5, "atw": 2.0, "atb": 0.5}]
    with pytest.raises(ShapeError, match="transpose"):
        figures.phase_picture([1, 2, 3], [0, 1], chi)
