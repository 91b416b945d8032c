import math

import pytest

from deepforward.report.measures import Measure, headline, measures
from deepforward.report.plain import MINUS

INF = math.inf


def test_ends_of_an_interval_are_no_metrics_of_their_own():
    found = measures({"test/accuracy": 0.5, "log_partition": 3.0, "log_partition_low": 2.0, "log_partition_high": 5.0})
    assert found == [Measure("test/accuracy", 0.5), Measure("log_partition", 3.0, (2.0, 5.0))]
    assert [m.name for m in measures({"a": 1.0, "a_low": 0.5})] == ["a"]
    assert [m.name for m in measures({"water_low": 1.0})] == ["water_low"]


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((-90.25, -89.875), f"{MINUS}90.2 to {MINUS}89.9"),
        ((-25.001, -24.972), f"{MINUS}25.00 to {MINUS}24.97"),
        ((2.0, 500.0), "2.0 to 500.0"),
        ((1.5, 1.5), "exact"),
        ((-INF, 2.0), f"{MINUS}∞ to 2.00"),
        ((math.nan, 2.0), "at most 2"),
        ((-2.0, math.nan), f"at least {MINUS}2"),
        (None, ""),
    ],
)
def test_an_interval_is_rounded_to_its_width(interval, said):
    assert Measure("x", 1.0, interval).range() == said


def test_value_unit_and_interval_make_one_line():
    assert Measure("test/log_likelihood", -90.0, (-90.5, -89.5)).whole() == (
        f"{MINUS}90 nats (95% interval {MINUS}90.5 to {MINUS}89.5)"
    )
    assert Measure("test/log_likelihood", -90.0, (-90.0, -90.0)).whole() == f"{MINUS}90 nats (exact)"
    assert Measure("test/log_likelihood_bound", -90.0, (-90.0, -90.0)).whole() == f"{MINUS}90 nats (log Z exact)"
    assert Measure("test/accuracy", 0.912).whole() == "91.2%"
    assert Measure("test/loss", 0.25).whole() == "0.25"


def test_the_headline_leads_with_what_counts():
    energy = {"test/reconstruction": 0.1, "test/free_energy": -9.0, "test/pseudo_log_likelihood": -20.0}
    assert [m.quantity for m in headline(energy)] == ["reconstruction", "pseudo_log_likelihood"]
    likely = {**energy, "test/log_likelihood": -30.0, "log_partition": 4.0, "train/loss": 1.0}
    assert [m.quantity for m in headline(likely)] == ["log_likelihood", "reconstruction"]
    assert [m.name for m in headline({"test/loss": 0.3, "test/accuracy": 0.9})] == ["test/accuracy", "test/loss"]
    assert [m.name for m in headline({"train/loss": 0.3, "validation/loss": math.nan})] == ["train/loss"]


def test_an_open_end_does_not_cost_the_interval_its_other():
    metrics = {"test/log_likelihood": -30.0, "test/log_likelihood_low": -31.0, "test/log_likelihood_high": math.nan}
    assert headline(metrics)[0].range() == f"at least {MINUS}31"
