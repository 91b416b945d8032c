import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deepforward.theory import critical_line, fixed_point, moments, phase_grid, phase_point, second_moments
from deepforward.theory.mean_field import Criticality

#: sigma_w, sigma_b and chi of tanh as printed in the lecture's companion.
PRINTED = [(0.9, 0, 0.81), (1, 0, 1), (1.5, 0, 1.1393), (1.5, 0.3, 1.0610), (1.3, 0.3, 0.9398), (2, 0.5, 1.2722)]
KINDS = ["ordered", "critical", "chaotic", "chaotic", "ordered", "chaotic"]


@pytest.mark.parametrize(("point", "kind"), [*zip(PRINTED, KINDS, strict=True)])
def test_chi_of_tanh_is_as_printed(point, kind):
    weight, bias, chi = point
    found = phase_point(torch.tanh, weight**2, bias**2)
    assert found.chi == pytest.approx(chi, abs=5e-5)
    assert found.kind == kind


@pytest.mark.parametrize(("phi", "weight", "bias"), [(torch.tanh, 2.25, 0.09), (F.selu, 1.0, 0.0), (F.gelu, 1.7, 0.1)])
def test_the_fixed_point_is_where_iteration_ends(phi, weight, bias):
    ended = second_moments(phi, Criticality(weight, bias, None), 1.0, 400)[-1].item()
    assert fixed_point(phi, weight, bias) == pytest.approx(ended, rel=1e-8)


def test_fixed_points_at_the_ends_and_on_the_margin():
    assert fixed_point(F.relu, 2.0, 0.0, start=0.37) == 0.37
    assert fixed_point(F.relu, 3.0, 0.0) == math.inf
    assert fixed_point(F.gelu, 2.0, 0.0) == 0.0
    assert fixed_point(torch.tanh, 1.0, 0.0) == 0.0
    # q' = 1.9 q/2 + 0.1
    assert fixed_point(F.relu, 1.9, 0.1) == pytest.approx(2.0)
    # slowly: q = 2 sigma_b is what the cubic term balances, q'/q - 1 = -2 q + sigma_b^2/q = 0
    assert fixed_point(torch.tanh, 1.0, 1e-8) == pytest.approx(math.sqrt(1e-8 / 2), rel=1e-3)


def test_depth_scales_are_the_rates_of_convergence():
    found = phase_point(torch.tanh, 1.69, 0.09)
    near = second_moments(torch.tanh, Criticality(1.69, 0.09, None), found.q + 1e-5, 5).numpy() - found.q
    assert -1 / math.log(near[3] / near[2]) == pytest.approx(found.q_depth, rel=1e-3)
    assert -1 / math.log(found.chi) == pytest.approx(found.correlation_depth)
    chaotic = phase_point(torch.tanh, 2.25, 0.09)
    assert 0 < chaotic.correlation < 1
    assert chaotic.correlation_depth == pytest.approx(19.92, rel=0.01)


@pytest.mark.parametrize(("phi", "weight"), [(torch.tanh, 1.0), (F.relu, 2.0), (F.hardtanh, 1.0)])
def test_criticality_is_said_rather_than_a_depth_of_1e15(phi, weight):
    found = phase_point(phi, weight, 0.0)
    assert (found.kind, found.correlation_depth) == ("critical", None)


def test_the_line_of_tanh_has_chi_one_at_its_own_fixed_point():
    line = critical_line(torch.tanh, np.geomspace(1e-3, 3, 12).tolist())
    assert (line.sigma_w[0], line.sigma_b[0]) == (pytest.approx(1, abs=2e-3), pytest.approx(0, abs=2e-3))
    for q, weight, bias in zip(*line, strict=True):
        assert weight**2 * moments(torch.tanh, q).slope == pytest.approx(1, rel=1e-9)
        assert fixed_point(torch.tanh, weight**2, bias**2) == pytest.approx(q, rel=1e-5)


def test_relu_is_critical_at_a_point_and_softplus_nowhere():
    line = critical_line(F.relu, [0.1, 1.0, 10.0])
    assert line.sigma_w == pytest.approx([math.sqrt(2)] * 3)
    assert line.sigma_b == pytest.approx([0.0] * 3, abs=1e-6)
    assert critical_line(F.softplus, [0.1, 1.0, 10.0]).q == ()


@pytest.mark.parametrize("phi", [torch.tanh, torch.erf, F.relu, F.hardtanh])
def test_the_picture_is_made_of_its_points(phi):
    weights, biases = [0.6, 1.0, 1.3, math.sqrt(2), 2.5], [0.0, 0.1, 1.0]
    grid = phase_grid(phi, weights, biases)
    exact = [[phase_point(phi, w**2, b**2).chi for w in weights] for b in biases]
    assert grid.shape == (3, 5)
    assert grid == pytest.approx(np.array(exact), abs=2e-3)
