import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch.nn import functional as F

from deepforward.theory.quadrature import Activation, derivative, kinks, moments

KINKED = {
    "relu": (F.relu, [0.0]),
    "hard-tanh": (F.hardtanh, [-1.0, 1.0]),
    "relu6": (F.relu6, [0.0, 6.0]),
    "selu": (F.selu, [0.0]),
    "hard-swish": (F.hardswish, [-3.0, 3.0]),
    "soft-shrink": (F.softshrink, [-0.5, 0.5]),
    "shifted relu": (lambda x: F.relu(x - 0.7), [0.7]),
    "three": (lambda x: F.relu(x + 10.25) - 2 * F.relu(x) + F.relu(x - 3.3), [-10.25, 0.0, 3.3]),
}
SMOOTH = {
    "tanh": torch.tanh,
    "steep": lambda x: torch.tanh(20 * x),
    "elu": F.elu,
    "softplus": F.softplus,
    "linear": lambda x: x,
}


SMOOTH_OR_KINKED = {
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "selu": F.selu,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "leaky": F.leaky_relu,
}


@pytest.mark.parametrize("name", SMOOTH_OR_KINKED)
@pytest.mark.parametrize("q", [0.01, 1.0, 100.0])
def test_moments_agree_with_adaptive_quadrature(name, q):
    phi, root = SMOOTH_OR_KINKED[name], math.sqrt(q)

    def at(z):
        x = torch.tensor(root * z, dtype=torch.float64, requires_grad=True)
        y = phi(x)
        (slope,) = torch.autograd.grad(y, x)
        return float(x.detach()), float(y.detach()), float(slope)

    def expectation(f):
        pieces = [integrate.quad(lambda z: f(*at(z)) * stats.norm.pdf(z), *side, limit=100)[0] for side in ((-12, 0), (0, 12))]
        return sum(pieces)

    found = moments(phi, q)
    assert found.slope == pytest.approx(expectation(lambda x, y, s: s * s), abs=1e-8)
    assert found.square == pytest.approx(expectation(lambda x, y, s: y * y), rel=1e-8)


def test_growth_is_the_derivative_of_the_square():
    for phi in SMOOTH_OR_KINKED.values():
        numerical = (moments(phi, 1.0001).square - moments(phi, 0.9999).square) / 2e-4
        assert moments(phi, 1.0).growth == pytest.approx(numerical, rel=1e-6)


@pytest.mark.parametrize("name", KINKED)
def test_kinks_are_found_to_the_last_digits(name):
    phi, expected = KINKED[name]
    assert sorted(kinks(phi)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_have_none(name):
    assert kinks(SMOOTH[name]) == ()


@settings(max_examples=15, deadline=None)
@given(at=st.floats(-30, 30))
def test_a_kink_anywhere_is_found(at):
    assert kinks(lambda x: F.relu(x - at)) == pytest.approx((at,), abs=1e-12)


@pytest.mark.parametrize("q", [1e-3, 0.213, 1.0, 7.0, 1e4])
def test_kinks_away_from_zero_have_the_closed_form(q):
    inside = 2 * stats.norm.cdf(1 / math.sqrt(q)) - 1
    assert moments(F.hardtanh, q).slope == pytest.approx(inside, abs=1e-12)
    assert moments(lambda x: F.relu(x - 0.7), q).slope == pytest.approx(stats.norm.sf(0.7 / math.sqrt(q)), abs=1e-12)


def gauss_hermite(phi, q, count):
    z, weights = np.polynomial.hermite_e.hermegauss(count)
    slope = derivative(phi, math.sqrt(q) * torch.from_numpy(z))[1].numpy()
    return float(weights @ slope**2) / math.sqrt(2 * math.pi)


def test_gauss_hermite_is_wrong_where_these_moments_hold():
    # the lecture's companion prints the three wrong numbers, and the right ones to five and four digits
    assert gauss_hermite(F.selu, 1.0, 16) == pytest.approx(1.0114, abs=5e-5)
    assert gauss_hermite(F.selu, 1.0, 128) == pytest.approx(1.0637, abs=5e-5)
    assert gauss_hermite(torch.tanh, 100.0, 128) == pytest.approx(0.0108, abs=5e-5)
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    closed = scale**2 * (0.5 + alpha**2 * math.exp(2) * stats.norm.cdf(-2))
    assert moments(F.selu, 1.0).slope == pytest.approx(closed, abs=1e-11)
    assert moments(F.selu, 1.0).slope == pytest.approx(1.07157, abs=5e-6)
    assert moments(torch.tanh, 100.0).slope == pytest.approx(0.0531, abs=5e-5)


@pytest.mark.parametrize("q", [1e2, 1e4, 1e8])
def test_saturation_at_any_second_moment_agrees_with_adaptive_quadrature_around_the_slope(q):
    root = math.sqrt(q)
    exact = integrate.quad(lambda x: math.cosh(x) ** -4 * stats.norm.pdf(x / root) / root, -20, 20, epsabs=1e-14)[0]
    assert moments(torch.tanh, q).slope == pytest.approx(exact, rel=1e-10)


def test_fourth_moments_have_the_closed_form():
    found = moments(F.relu, 2.0)
    assert (found.fourth, found.slope_fourth, found.mixed) == pytest.approx((1.5 * 4, 0.5, 1.0), rel=1e-12)


@pytest.mark.parametrize("phi", [torch.tanh, F.gelu, F.selu, F.hardtanh])
def test_derivatives_by_the_logarithm_of_q_are_difference_quotients(phi):
    # second differences of step 1e-3 err by 1e-6 of the fourth derivative
    step = 1e-3
    below, here, above = (moments(phi, math.exp(k * step)) for k in (-1, 0, 1))
    for name, first, second in (
        ("square", here.growth / here.square, here.bend),
        ("slope", here.slope_growth, here.slope_bend),
    ):
        low, middle, high = (math.log(getattr(m, name)) for m in (below, here, above))
        assert (high - low) / (2 * step) == pytest.approx(first, abs=1e-5)
        assert (high - 2 * middle + low) / step**2 == pytest.approx(second, abs=1e-5)


def test_a_second_moment_that_left_every_range_stays_finite():
    for q in (0.0, 1e-320, 1e300, math.inf):
        assert all(math.isfinite(value) for value in moments(F.relu, q))
        assert moments(F.relu, q).slope == pytest.approx(0.5)


def test_functions_are_one_if_their_values_agree():
    assert Activation(F.relu) == Activation(lambda x: x.clamp(min=0)) != Activation(F.gelu)
    assert Activation(lambda x: F.hardtanh(x, -900.0, 900.0)) != Activation(lambda x: x)
