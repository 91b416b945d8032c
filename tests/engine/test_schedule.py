import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepforward.engine.schedule import OPTIONS, rate
from deepforward.errors import InvalidOption


def test_cosine_follows_its_formula():
    for step in range(100):
        assert rate("cosine", {}, 0.3, step, 100) == pytest.approx(0.15 * (1 + math.cos(math.pi * step / 100)), abs=1e-15)


def test_step_falls_by_its_factor_at_each_third():
    rates = [rate("step", {}, 1.0, step, 90) for step in range(90)]
    assert rates[:29] == [1.0] * 29
    assert rates[35] == pytest.approx(0.1)
    assert rates[89] == pytest.approx(0.01)


def test_one_cycle_rises_to_its_peak_and_ends_near_zero():
    rates = [rate("one-cycle", {}, 2.0, step, 1000) for step in range(1000)]
    peak = rates.index(max(rates))
    assert peak == 300
    assert rates[300] == 2.0
    assert rates[:301] == sorted(rates[:301])
    assert rates[300:] == sorted(rates[300:], reverse=True)
    assert rates[0] == pytest.approx(2.0 * 0.04, rel=0.1)
    assert 0 < rates[-1] < 1e-4


@given(
    schedule=st.sampled_from(sorted(OPTIONS)),
    peak=st.floats(1e-6, 10),
    steps=st.integers(1, 10_000),
    share=st.floats(0, 1, exclude_max=True),
)
def test_every_schedule_stays_between_zero_and_its_peak(schedule, peak, steps, share):
    assert 0 <= rate(schedule, {}, peak, int(share * steps), steps) <= peak * (1 + 1e-12)


@pytest.mark.parametrize(
    ("options", "message"), [({"warm": 0.1}, "no option 'warm'"), ({"warmup": 3}, "from 0 to 1"), ({"final": "0"}, "number")]
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InvalidOption, match=message):
        rate("cosine", options, 0.1, 0, 10)


def test_linear_falls_on_a_line_after_its_warm_up():
    rates = [rate("linear", {}, 0.4, step, 100) for step in range(100)]
    assert rates[0] == 0.4
    assert rates[50] == pytest.approx(0.2, abs=1e-15)
    assert rates[99] == pytest.approx(0.004, abs=1e-15)
    falls = [rate("linear", {"final": 0.25}, 0.4, step, 100) for step in range(100)]
    assert falls == pytest.approx([0.4 * (1 - 0.75 * step / 100) for step in range(100)], abs=1e-15)
    warm = [rate("linear", {"warmup": 0.2}, 0.4, step, 100) for step in range(100)]
    assert warm[:20] == pytest.approx([0.4 * (step + 1) / 21 for step in range(20)], abs=1e-15)
    assert warm[20] == 0.4
    assert warm[60] == pytest.approx(0.2, abs=1e-15)
    assert warm[20:] == sorted(warm[20:], reverse=True)
    assert rate("linear", {"warmup": 1.0}, 0.4, 99, 100) == pytest.approx(0.4 * 100 / 101)
    assert rate("linear", {}, 0.4, 0, 1) == 0.4
