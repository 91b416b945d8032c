"""Basins of attraction against arithmetic, symmetry and a slow loop."""

import math

import pytest
import torch

from deepforward.errors import InvalidOption, ShapeError, TooLarge
from deepforward.theory.basins import ESCAPED, UNSETTLED, basins, grid, log_growth, newton_map

CUBE = torch.tensor([1.0, 0, 0, -1])


def test_newton_for_the_cube_roots_of_one_parts_the_disc_in_three():
    plane = grid((-2, -2), (2, 2), 801)
    found = basins(newton_map(CUBE), plane)
    disc = plane.norm(dim=-1) <= 2
    angles = [round(math.degrees(math.atan2(y, x))) for ((x, y),) in (a.tolist() for a in found.attractors)]
    named = dict(zip(angles, found.shares(disc), strict=True))
    assert {angle: round(share, 4) for angle, share in named.items()} == {0: 0.3335, 120: 0.3333, -120: 0.3333}
    assert (found.labels < 0).sum() == 1  # the middle, where the slope of z^3 - 1 vanishes
    assert found.labels[400, 400] == ESCAPED
    upper, lower = (next(k for k, a in enumerate(found.attractors) if a[0, 1] * sign > 0.5) for sign in (1, -1))
    assert torch.equal(found.labels == upper, (found.labels == lower).flip(0))  # conjugation
    for a in found.attractors:
        assert torch.view_as_complex(a).item() ** 3 == pytest.approx(1, abs=1e-12)


def test_labels_and_steps_are_those_of_following_each_start_by_itself():
    f, plane = newton_map(CUBE), grid((-1.9, -1.7), (1.8, 2), 12)
    found = basins(f, plane)
    for start, label, steps in zip(plane.reshape(-1, 2), found.labels.flatten(), found.steps.flatten(), strict=True):
        z, count = complex(*start.tolist()), 0
        while True:
            count += 1
            z, before = z - (z**3 - 1) / (3 * z**2), z
            if abs(z - before) <= 1e-9 * max(1, abs(z)):
                break
        assert steps == count
        assert abs(complex(*found.attractors[label][0].tolist()) - z) < 1e-9


def test_hebbs_rule_on_two_units_parts_the_plane_in_quadrants():
    """Patterns (1, 1) and (1, -1) give W = I: each unit remembers its own sign, h = tanh(2 h)."""
    plane = grid((-1, -1), (1, 1), 40)
    found = basins(lambda h: torch.tanh(2 * h), plane)
    assert len(found.attractors) == 4
    for attractor, k in zip(found.attractors, range(4), strict=True):
        assert attractor.abs().flatten().tolist() == pytest.approx([0.9575040240772687] * 2, abs=1e-8)
        assert torch.equal(found.labels == k, (plane.sign() == attractor.sign()).all(-1))
    assert found.shares() == [0.25] * 4
    frontier = found.frontier()
    assert frontier.sum() == 4 * 40 - 4  # two rows and two columns that meet in the middle


def test_cycles_are_attractors_too():
    starts = torch.rand(300, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lone = basins(lambda x: 3.5 * x * (1 - x), starts, period=1)
    assert (lone.labels == UNSETTLED).all() and lone.attractors == ()
    found = basins(lambda x: 3.5 * x * (1 - x), starts, period=4)
    assert (found.labels == 0).all()
    assert sorted(found.attractors[0][:, 0].tolist()) == pytest.approx([0.38282, 0.50088, 0.82694, 0.87500], abs=5e-6)
    sink = basins(lambda x: 2.8 * x * (1 - x), starts, period=4)
    assert len(sink.attractors) == 1 and sink.attractors[0].shape == (1, 1)


def test_what_escapes_is_told_from_what_stays():
    """z^2: the unit circle parts the basin of 0 from that of infinity."""
    plane = grid((-2, -2), (2, 2), 50)
    found = basins(lambda p: torch.view_as_real(torch.view_as_complex(p) ** 2), plane)
    inside = plane.norm(dim=-1) < 1
    assert torch.equal(found.labels == 0, inside) and torch.equal(found.labels == ESCAPED, ~inside)
    assert found.shares(inside) == [1.0]


def test_growth_is_the_derivative_of_the_composition():
    f, points = newton_map(CUBE), torch.tensor([[0.3, 0.4], [1.5, -0.2], [-0.1, 0.05]], dtype=torch.float64)
    along = torch.tensor([3.0, 0.0], dtype=torch.float64)
    for point, ours in zip(points, log_growth(f, points, along, 5), strict=True):
        z, slope = complex(*point.tolist()), 1.0
        for _ in range(5):
            slope *= 2 * (z**3 - 1) / (3 * z**3)  # p p'' / p'^2
            z -= (z**3 - 1) / (3 * z**2)
        assert ours.item() == pytest.approx(math.log(abs(slope)), abs=1e-10)
    assert log_growth(lambda p: 0 * p, points, along, 3).tolist() == [-math.inf] * 3


@pytest.mark.parametrize("roots", [[2.0, -1.0], [1j, -1j, 0.5], [1.0, 1 + 1j, -2.0, 0.3j]])
def test_newtons_method_ends_on_the_roots_of_any_polynomial(roots):
    coefficients = torch.ones(1, dtype=torch.complex128)
    for root in roots:
        longer = torch.zeros(len(coefficients) + 1, dtype=torch.complex128)
        longer[:-1] += coefficients
        longer[1:] -= root * coefficients
        coefficients = longer
    found = basins(newton_map(coefficients), grid((-3, -2.9), (2.8, 3), 30))
    ends = sorted((complex(*a[0].tolist()) for a in found.attractors), key=lambda z: (round(z.real, 6), round(z.imag, 6)))
    expected = sorted(map(complex, roots), key=lambda z: (z.real, z.imag))
    assert ends == pytest.approx(expected, abs=1e-9)


def test_bad_input():
    with pytest.raises(InvalidOption, match="degree 1 or more"):
        newton_map(torch.tensor([3.0]))
    with pytest.raises(InvalidOption, match="low below high"):
        grid((0, 0), (0, 1), 5)
    with pytest.raises(TooLarge, match="256 attractors"):
        basins(lambda x: x, torch.arange(400.0).unsqueeze(1))
    with pytest.raises(ShapeError, match="along the first axis"):
        basins(lambda x: x[:, :1], torch.zeros(3, 2))
    with pytest.raises(ShapeError, match="expected a grid"):
        basins(lambda x: x / 2, torch.zeros(3, 2)).frontier()
