"""Fixed points of maps against closed forms, enumeration and iteration."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepforward.errors import Diverged, InvalidData, InvalidOption, ShapeError
from deepforward.theory.fixed_points import fixed_point_near, fixed_points, fixed_points_from, iterated, stability
from deepforward.theory.maps import LogisticMap


def lecture(x):
    return 3.5 * x * (1 - x)


def places(found):
    return [p.point[0] for p in found]


def kinds(found):
    return [p.kind for p in found]


def test_both_fixed_points_of_the_lectures_map_are_sources():
    found = fixed_points(lecture, 0, 1)
    assert places(found) == pytest.approx([0, 5 / 7], abs=1e-15)
    assert [p.multipliers[0] for p in found] == pytest.approx([3.5, -1.5], abs=1e-13)
    assert kinds(found) == ["source", "source"]


@settings(deadline=None, max_examples=15)
@given(r=st.floats(0.2, 4).filter(lambda r: abs(r - 1) > 0.01), samples=st.integers(40, 400))
def test_fixed_points_of_logistic_maps_are_those_in_closed_form(r, samples):
    found = fixed_points(lambda x: r * x * (1 - x), 0, 1, samples)
    expected = LogisticMap(r).fixed_points()
    assert places(found) == pytest.approx([c.points[0] for c in expected], abs=1e-13)
    assert [p.multipliers[0] for p in found] == pytest.approx([c.multiplier for c in expected], abs=1e-12)
    assert kinds(found) == [c.kind for c in expected]


def test_cycles_are_fixed_points_of_the_composition():
    found = fixed_points(iterated(lecture, 4), 0, 1)
    sinks = [p for p in found if p.kind == "sink"]
    cycle = LogisticMap(3.5).attracting_cycle()
    assert places(sinks) == pytest.approx(sorted(cycle.points), abs=1e-9)
    assert [p.multipliers[0] for p in sinks] == pytest.approx([cycle.multiplier] * 4, abs=1e-8)
    assert len(found) == 8  # 0, 5/7, the 2-cycle 3/7, 6/7, and this one: no other cycle of 1, 2 or 4 is born below r = 3.5
    assert {3 / 7, 6 / 7} <= {round(x * 7) / 7 for x in places(found) if abs(x * 7 - round(x * 7)) < 1e-9}


@settings(deadline=None, max_examples=15)
@given(roots=st.lists(st.integers(-40, 40), min_size=1, max_size=6, unique=True))
def test_fixed_points_alternate_as_the_polynomial_does(roots):
    """f(x) = x + c prod(x - a): slope 1 + c prod(a - b), whose gap changes sign at every root."""

    def gap(x):
        return 1e-3 * torch.stack([x - a / 10 for a in roots]).prod(0)

    found = fixed_points(lambda x: x + gap(x), -5, 5)
    roots = sorted(a / 10 for a in roots)
    assert places(found) == pytest.approx(roots, abs=1e-9)
    slopes = [1 + 1e-3 * math.prod(a - b for b in roots if b != a) for a in roots]
    assert [p.multipliers[0] for p in found] == pytest.approx(slopes, abs=1e-9)


@pytest.mark.parametrize("where", [0.0, 0.1234, -0.7])
def test_a_graph_that_touches_the_diagonal_has_a_neutral_fixed_point_there(where):
    for power, above in ((2, True), (3, False), (4, True)):
        found = fixed_points(lambda x, power=power: x + (x - where) ** power, -1.03, 1)
        assert places(found) == pytest.approx([where], abs=1e-4)  # (1e-16)^(1/4): a fourfold root is no better known
        assert kinds(found) == ["neutral"]
        lifted = fixed_points(lambda x, power=power: x + (x - where) ** power + 1e-6, -1.03, 1)
        assert (lifted == []) == above


def test_jumps_and_poles_across_the_diagonal_are_no_fixed_points():
    assert places(fixed_points(lambda x: 2 * torch.sign(x - 0.3), -10, 10)) == [-2, 2]
    tangents = places(fixed_points(torch.tan, -6, 6))
    assert tangents == pytest.approx([-4.493409457909064, 0, 4.493409457909064], abs=1e-12)
    assert kinds(fixed_points(torch.cos, -9, 9)) == ["sink"]
    assert fixed_points(torch.exp, -5, 5) == []


def test_ends_of_the_interval_count():
    assert places(fixed_points(lambda x: x**2, 0, 1)) == [0, 1]
    assert kinds(fixed_points(lambda x: x**2, 0, 1)) == ["sink", "source"]
    assert places(fixed_points(torch.ones_like, -1, 1)) == [1]


@pytest.mark.parametrize(
    ("multipliers", "kind"),
    [
        ([0.5], "sink"),
        ([-1.5], "source"),
        ([-1.0], "neutral"),
        ([0.3, 0.9j], "sink"),
        ([1.2, 1.1j], "source"),
        ([1.2, 0.1], "saddle"),
        ([1.0, 0.1], "neutral"),
        ([1.2, 1.0], "saddle"),
        ([0.0], "sink"),
    ],
)
def test_moduli_decide(multipliers, kind):
    assert stability(multipliers) == kind


def henon(p):
    x, y = p.unbind(-1)
    return torch.stack([1 - 1.4 * x**2 + y, 0.3 * x], dim=-1)


def test_newton_finds_both_saddles_of_the_henon_map():
    b = 0.3
    x = [(-(1 - b) + sign * math.sqrt((1 - b) ** 2 + 4 * 1.4)) / 2.8 for sign in (1, -1)]
    found = fixed_points_from(henon, torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0], [-2.0, 0.5]]))
    assert [p.point for p in found] == [pytest.approx((a, b * a), abs=1e-12) for a in x]
    for p, a in zip(found, x, strict=True):
        exact = np.linalg.eigvals([[-2.8 * a, 1], [b, 0]])
        assert sorted(m.real for m in p.multipliers) == pytest.approx(sorted(exact), abs=1e-12)
        assert p.kind == "saddle"
        assert p.spectral_radius == pytest.approx(max(abs(exact)), abs=1e-12)


def test_a_sink_found_by_newton_is_where_iteration_ends_at_the_rate_of_its_spectral_radius():
    rng = torch.Generator().manual_seed(0)
    U = torch.randn(5, 5, generator=rng, dtype=torch.float64)
    U *= 0.95 / torch.linalg.matrix_norm(U, 2)
    b = torch.randn(5, generator=rng, dtype=torch.float64)
    sink = fixed_point_near(lambda h: torch.tanh(U @ h + b), torch.zeros(5))
    assert sink.kind == "sink"
    point, h, distances = torch.tensor(sink.point, dtype=torch.float64), b, []
    for _ in range(60):
        h = torch.tanh(U @ h + b)
        distances.append(torch.dist(h, point).item())
    exact = np.linalg.eigvals((torch.diag(1 - point**2) @ U).numpy())
    assert sorted(map(abs, sink.multipliers)) == pytest.approx(sorted(abs(exact)), abs=1e-12)
    # Complex multipliers make the distance swing by a bounded factor, here less than 2, about its trend.
    assert 0.5 < distances[25] / distances[5] / sink.spectral_radius**20 < 2


def test_newton_says_where_it_found_nothing():
    with pytest.raises(Diverged, match=r"got no fixed point .*start elsewhere"):
        fixed_point_near(lambda x: x + 1, torch.zeros(2))
    with pytest.raises(Diverged):
        fixed_point_near(torch.exp, torch.zeros(1))
    assert fixed_points_from(torch.exp, torch.zeros(3, 1)) == []


def test_bad_maps_and_intervals():
    with pytest.raises(InvalidOption, match="expected at least 2 of an interval"):
        fixed_points(lecture, 1, 0)
    with pytest.raises(InvalidOption, match="got 1 samples"):
        fixed_points(lecture, 0, 1, samples=1)
    with pytest.raises(InvalidOption):
        fixed_points(lecture, math.nan, 1)
    with pytest.raises(InvalidData, match="not finite at -1"):
        fixed_points(torch.log, -1, 1)
    with pytest.raises(InvalidData, match="leaves all points near"):
        fixed_points(torch.relu, -1, 1)
    with pytest.raises(ShapeError, match="elementwise"):
        fixed_points(lambda x: x.sum(), 0, 1)
    with pytest.raises(ShapeError, match="same space"):
        fixed_point_near(lambda x: x[:1], torch.zeros(2))
