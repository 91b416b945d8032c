import numpy as np
import pytest

from deepforward.report import Chart, Facts, Heading, Page, render
from deepforward.report.network_section import (
    blocks_section,
    growth_section,
    likeness_section,
    phase_section,
    shift_section,
    smoothness_section,
    spectrum_section,
)


def rows(chart: Chart, series: str) -> list[dict]:
    return [row for row in chart.spec["data"]["values"] if row.get("series", row.get("group")) == series]


def test_growth_is_drawn_beside_its_prediction_and_a_band_of_two_deviations():
    _, growth, signal = growth_section(
        ["0#0", "2#0", "4#0"],
        measured=[None, -1.0, 0.0],
        predicted=[-2.0, -1.1, 0.0],
        deviation=[0.3, 0.2, 0.0],
        signal=[1.0, 0.01, 1e-4],
        signal_predicted=[1.0, 0.02, 3e-4],
    )
    assert [row["y"] for row in rows(growth, "measured")] == [None, -1.0, 0.0]
    band = [(row["low"], row["high"]) for row in rows(growth, "predicted")]
    assert np.allclose(band, [(-2.6, -1.4), (-1.5, -0.7), (0.0, 0.0)])
    assert "from 0 to 4" in growth.alt
    assert [row["y"] for row in rows(signal, "predicted")] == [1.0, 0.02, 3e-4]


def test_a_signal_without_prediction_is_one_line():
    *_, signal = growth_section(
        ["a#0"], measured=[0.0], predicted=[0.0], deviation=[0.0], signal=[1.0], signal_predicted=[None]
    )
    assert {row["series"] for row in signal.spec["data"]["values"]} == {""}


def test_the_phase_picture_holds_the_network_wherever_it_is():
    seen = []

    def grid(weights, biases):
        seen.append((weights[-1], biases[-1]))
        return np.ones((len(biases), len(weights)))

    _, chart, facts = phase_section({"phase": "chaotic"}, (5.0, 2.0), grid)
    assert seen == [(pytest.approx(6.0), pytest.approx(3.0))]
    assert "1 networks are marked" in chart.alt and facts.facts == {"phase": "chaotic"}
    assert [type(block) for block in phase_section({"phase": "ordered"}, None, None)] == [Heading, Facts]


def test_singular_values_fall_and_those_of_a_smaller_stretch_end_earlier():
    _, chart, _ = spectrum_section({"model": [1.0, 3.0, 2.0], "head": [0.5]}, {})
    assert [row["y"] for row in rows(chart, "model")] == [3.0, 2.0, 1.0]
    assert [row["y"] for row in rows(chart, "head")] == [0.5, None, None]
    assert [type(block) for block in spectrum_section({}, {"m1": 1.0})] == [Heading, Facts]


def test_the_line_beside_the_walk_is_the_fitted_one():
    _, chart, _ = smoothness_section([0.5, 1.0, 2.0], [3.0, 4.0, 7.0], (1.0, 3.0), {})
    assert [(row["x"], row["y"]) for row in rows(chart, "measured")] == [(0.5, 3.0), (1.0, 4.0), (2.0, 7.0)]
    fitted = np.array([(row["x"], row["y"]) for row in rows(chart, "fit L0 + L1 |g|")])
    assert (fitted[0, 0], fitted[-1, 0]) == (0.5, 2.0)
    assert np.allclose(fitted[:, 1], 1.0 + 3.0 * fitted[:, 0], rtol=1e-4)  # five digits are drawn
    _, unfitted, _ = smoothness_section([0.5], [3.0], None, {})
    assert len(unfitted.spec["data"]["values"]) == 1


def test_every_section_renders_with_what_is_unknown_left_open():
    blocks = [
        *growth_section(["a#0"], measured=[None], predicted=[None], deviation=[0.0], signal=[0.0], signal_predicted=[None]),
        *spectrum_section({"model": []}, {}),
        *likeness_section(["a#0", "b#0"], [None, 0.5], [0.3, None]),
        *smoothness_section([0.0], [float("inf")], (0.0, 1.0), {}),
        *shift_section(["a", "b"], [0.0, 1.0], [1.0, -0.5]),
        *blocks_section(["block#0"], [0.1], [1.0]),
    ]
    page = render(Page("a network", blocks=blocks))
    assert page.count("<h2 id=") == 6 and "NaN" not in page.partition("<main>")[2].partition("</main>")[0]
