import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deepforward.theory.mean_field import critical_point, moments, second_moments


@settings(max_examples=25, deadline=None)
@given(slope=st.floats(-0.9, 2.0))
@example(slope=0.99999)
def test_relu_family_has_the_closed_form(slope):
    point = critical_point(lambda x: F.leaky_relu(x, slope))
    assert point.weight_variance == pytest.approx(2 / (1 + slope**2), rel=1e-10)
    assert point.bias_variance == 0
    assert point.departure == 0


ODD = [(torch.tanh, 1.0), (F.hardtanh, 1.0), (lambda x: torch.sin(2 * x), 2.0), (lambda x: x, 1.0)]


@pytest.mark.parametrize(("phi", "slope"), ODD)
def test_odd_activations_sit_at_the_end_of_the_critical_line(phi, slope):
    point = critical_point(phi)
    assert (point.weight_variance, point.bias_variance) == (pytest.approx(1 / slope**2), 0.0)


@pytest.mark.parametrize(
    ("phi", "weight", "bias", "q"),
    [(F.gelu, 1.98305826, 0.17292239, 3.6), (F.silu, 1.98800, 0.555, 14.32)],
)
def test_published_critical_points(phi, weight, bias, q):
    # Roberts, Yaida, Hanin 2022, The principles of deep learning theory, section 5.3; q within the grid's step of 12 percent
    point = critical_point(phi)
    assert point.weight_variance == pytest.approx(weight, rel=2e-3)
    assert point.bias_variance == pytest.approx(bias, rel=2e-2)
    assert point.q == pytest.approx(q, rel=0.12)


@pytest.mark.parametrize("phi", [F.relu, F.gelu, F.silu, F.selu, F.elu, torch.sigmoid])
def test_fifty_layers_keep_signal_and_gradient_even_when_disturbed(phi):
    point = critical_point(phi)
    start = point.q or 1.0
    for disturbance in (0.9, 1.0, 1.1):
        trajectory = second_moments(phi, point, disturbance * start, 50)
        gradient = math.prod(point.weight_variance * moments(phi, float(q)).slope for q in trajectory)
        assert 0.89 < float(trajectory[-1]) / start < 1.11
        assert 0.8 < gradient < 1.25


def test_softplus_has_no_critical_point_and_says_so():
    point = critical_point(F.softplus)
    assert point.departure > 0.05
    assert point.bias_variance == 0
