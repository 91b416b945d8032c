import math
import sys
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepforward.errors import InvalidOption, MissingExtra
from deepforward.theory.maps import Cycle, LogisticMap, bifurcation_diagram

lecture = LogisticMap(3.5)
rates = st.floats(0.1, 4.0)
grid = torch.linspace(0, 1, 2001, dtype=torch.float64)


def preimages(f, y):
    inside = 1 - 4 * y / f.r
    return {(1 + sign * math.sqrt(inside)) / 2 for sign in (-1, 1)} if inside >= 0 else set()


def test_laps_of_the_lectures_map_are_the_published_ones():
    assert [lecture.laps(n) for n in range(9)] == [1, 2, 4, 8, 14, 24, 38, 58, 84]


@pytest.mark.parametrize("r", [1.5, 2.9, 3.3, 3.5, 3.7, 3.83, 3.99, 4.0])
def test_laps_are_one_more_than_the_preimages_of_the_critical_point(r):
    f, turning, generation = LogisticMap(r), set(), {0.5}
    for n in range(1, 10):
        turning |= generation
        assert f.laps(n) == 1 + len(turning)
        generation = {x for y in generation for x in preimages(f, y)}


@settings(deadline=None)
@given(r=rates, n=st.integers(1, 6))
def test_slope_of_the_composition_equals_autograd_and_peaks_at_r_to_the_n(r, n):
    f, x = LogisticMap(r), grid.clone().requires_grad_()
    f.iterate(x, n).sum().backward()
    ours = f.derivative(grid, n)
    largest = r**n
    torch.testing.assert_close(ours, x.grad, rtol=0, atol=1e-12 * max(1.0, largest))
    assert ours.abs().max().item() == pytest.approx(largest, rel=1e-14)


def test_largest_slopes_of_the_lectures_map_are_exact():
    assert [lecture.derivative(grid, n).abs().max().item() for n in (2, 3, 4)] == [12.25, 42.875, 150.0625]


def test_symbolic_composition_has_degree_two_to_the_n_and_the_same_values():
    for n in range(5):
        polynomial = lecture.composition(n)
        assert polynomial.degree() == 2**n
        x = Fraction(1, 3)
        exact = x
        for _ in range(n):
            exact = Fraction(7, 2) * exact * (1 - exact)
        assert polynomial.eval(x) == exact
        assert lecture.iterate(torch.tensor(1 / 3, dtype=torch.float64), n).item() == pytest.approx(float(exact), rel=1e-13)


def test_composition_without_sympy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(MissingExtra, match=r"deepforward\[theory\]"):
        lecture.composition(2)


def test_the_lectures_map_ends_on_a_four_cycle_and_both_its_fixed_points_are_sources():
    cycle = lecture.attracting_cycle()
    assert sorted(cycle.points) == pytest.approx([0.38282, 0.50088, 0.82694, 0.87500], abs=5e-6)
    assert cycle.multiplier == pytest.approx(-0.0305, abs=1e-6)
    assert cycle.kind == "sink"
    assert lecture.fixed_points() == [Cycle((0.0,), 3.5), Cycle((1 - 1 / 3.5,), -1.5)]
    assert [c.kind for c in lecture.fixed_points()] == ["source", "source"]


@settings(deadline=None)
@given(r=rates)
def test_fixed_points_are_fixed_and_their_multipliers_are_the_slopes(r):
    f = LogisticMap(r)
    for cycle in f.fixed_points():
        x = torch.tensor(cycle.points, dtype=torch.float64)
        torch.testing.assert_close(f.iterate(x, 1), x, rtol=0, atol=1e-15 * 4)
        assert f.derivative(x, 1).item() == pytest.approx(cycle.multiplier, abs=1e-14)


@pytest.mark.parametrize("r", [0.5, 2.0, 2.8, 3.2, 3.4, 3.5, 3.55, 3.83])
@settings(max_examples=5, deadline=None)
@given(start=st.floats(0.01, 0.99))
def test_orbits_end_on_the_attracting_cycle(r, start):
    f = LogisticMap(r)
    cycle = f.attracting_cycle()
    end = f.orbit(start, 5000)[-1]
    assert min(abs(end - point) for point in cycle.points) < 1e-9
    through = f.derivative(torch.tensor(cycle.points[0], dtype=torch.float64), len(cycle.points)).item()
    assert cycle.multiplier == pytest.approx(through, abs=1e-12)


@pytest.mark.parametrize("r", [3.7, 3.9, 4.0])
def test_chaos_has_no_attracting_cycle_and_a_positive_exponent(r):
    assert LogisticMap(r).attracting_cycle() is None
    assert LogisticMap(r).lyapunov_exponent(0.3, 20_000) > 0.1


def test_lyapunov_exponents_known_in_closed_form():
    multiplier = lecture.attracting_cycle().multiplier
    assert lecture.lyapunov_exponent(0.3, 4000) == pytest.approx(math.log(abs(multiplier)) / 4, abs=1e-12)
    # r = 4: x = sin^2 a makes the sum telescope, so its mean differs from ln 2 by O(1/n)
    assert LogisticMap(4.0).lyapunov_exponent(0.3, 100_000) == pytest.approx(math.log(2), abs=1e-3)
    assert LogisticMap(2.0).lyapunov_exponent(0.5, 10) == -math.inf


def test_cobweb_walks_between_curve_and_diagonal():
    corners = lecture.cobweb(0.1, 6)
    assert len(corners) == 13
    assert corners[0] == (0.1, 0.0)
    for (x, y), (after, diagonal) in zip(corners[1::2], corners[2::2], strict=True):
        assert y == pytest.approx(3.5 * x * (1 - x), rel=1e-15)
        assert after == diagonal == y


@pytest.mark.parametrize("r", [0.0, -1.0, 4.5, math.nan])
def test_rates_that_leave_the_interval_are_refused(r):
    with pytest.raises(InvalidOption, match="0 < r <= 4"):
        LogisticMap(r)


def test_the_bifurcation_diagram_shows_the_cycle_of_each_rate():
    rates = torch.tensor([0.8, 2.5, 3.3, 3.5, 3.83], dtype=torch.float64)
    for r, visited in zip(rates.tolist(), bifurcation_diagram(rates, points=24), strict=True):
        cycle = LogisticMap(r).attracting_cycle()
        period = len(cycle.points)
        assert sorted(visited[:period].tolist()) == pytest.approx(sorted(cycle.points), abs=1e-9)
        torch.testing.assert_close(visited[period:], visited[:-period], rtol=0, atol=1e-9)


def test_bands_of_chaos_lie_between_the_first_two_images_of_the_critical_point():
    r = 3.7
    visited = bifurcation_diagram(torch.tensor([r]), points=4000)[0]
    top = r / 4
    assert visited.max() <= top + 1e-6 and visited.min() >= r * top * (1 - top) - 1e-6  # r is given in float32
    assert len(set(visited.tolist())) > 3000


@pytest.mark.parametrize("r", [0.0, 4.5, math.nan])
def test_rates_of_the_diagram_must_keep_the_interval(r):
    with pytest.raises(InvalidOption, match="0 < r <= 4"):
        bifurcation_diagram(torch.tensor([3.0, r]))
