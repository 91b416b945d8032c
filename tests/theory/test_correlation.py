import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deepforward.errors import InvalidOption, ShapeError
from deepforward.theory import MeanFieldLayer, moments, propagate, propagate_correlation
from deepforward.theory.correlation import product, slope_product


def relu_closed(c):
    """Cho and Saul 2009, arc-cosine kernel of degree 1, at q = 1."""
    angle = math.acos(c)
    return (math.sin(angle) + (math.pi - angle) * c) / (2 * math.pi)


def erf_closed(q, c):
    """Williams 1997."""
    return 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q))


@settings(max_examples=40, deadline=None)
@given(c=st.floats(-1, 1), q=st.floats(1e-3, 1e3))
def test_products_have_the_closed_form(c, q):
    # the error counts in units of the difference from E[phi^2], which is what draws two inputs together
    gap = 0.5 - relu_closed(c)
    assert 0.5 - product(F.relu, q, c) / q == pytest.approx(gap, rel=1e-4, abs=1e-15)
    gap = erf_closed(q, 1.0) - erf_closed(q, c)
    assert moments(torch.erf, q).square - product(torch.erf, q, c) == pytest.approx(gap, rel=5e-6 * max(q, 1), abs=1e-14)


@pytest.mark.parametrize("closeness", [1e-3, 1e-6, 1e-9])
def test_relu_draws_close_inputs_together_by_the_power_three_halves(closeness):
    # 1 - c' = (1 - c) - (2 sqrt(2)/(3 pi)) (1 - c)^(3/2) + ...: the second term is what rank collapse hangs on
    after = 1 - 2 * product(F.relu, 1.0, 1 - closeness)
    drawn = (closeness - after) / closeness**1.5
    assert drawn == pytest.approx(2 * math.sqrt(2) / (3 * math.pi), rel=0.1)


@pytest.mark.parametrize("phi", [torch.tanh, F.gelu, F.hardtanh, lambda x: F.relu(x - 0.7)])
def test_products_agree_with_a_sum_over_a_fine_grid(phi):
    z = np.linspace(-8, 8, 1601)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    first = torch.from_numpy(np.sqrt(1.7) * z)
    for c in (-0.6, 0.2, 0.9):
        second = math.sqrt(1.7) * (c * torch.from_numpy(z)[:, None] + math.sqrt(1 - c * c) * torch.from_numpy(z))
        exact = float(torch.from_numpy(weight) @ (phi(first)[:, None] * phi(second)) @ torch.from_numpy(weight))
        assert product(phi, 1.7, c) == pytest.approx(exact, abs=2e-5)


def test_the_slope_at_one_is_chi_and_elsewhere_the_closed_form():
    for c in (-0.5, 0.0, 0.7):
        # derivative of the closed form: the degree-0 kernel of Cho and Saul
        assert slope_product(F.relu, 3.0, c) == pytest.approx((math.pi - math.acos(c)) / (2 * math.pi), rel=1e-3)
    assert slope_product(torch.tanh, 0.8, 1 - 1e-7) == pytest.approx(moments(torch.tanh, 0.8).slope, rel=1e-3)


def alike(phi, weight, bias, depth):
    layers = [MeanFieldLayer(weight, bias, phi, 500)] * depth
    return propagate_correlation(layers, propagate(layers, 1.0).q, 0.3)


def test_relu_at_criticality_makes_all_inputs_alike():
    found = alike(F.relu, 2.0, 0.0, 50)
    assert found[0] == pytest.approx(0.3)
    assert found[1] == pytest.approx(2 * relu_closed(0.3), rel=1e-4)
    assert list(found) == sorted(found)
    # 1 - c falls as (9 pi^2/2)/l^2, algebraically
    assert 0.5 < (1 - found[-1]) * 50**2 / (9 * math.pi**2 / 2) < 1


def test_order_draws_together_exponentially_and_chaos_keeps_apart():
    ordered, chaotic = alike(torch.tanh, 1.3, 0.3, 40), alike(torch.tanh, 2.25, 0.0, 60)
    assert 1 - ordered[-1] < 1e-6
    assert abs(chaotic[-1]) < 0.02


def test_measured_correlations_are_those_predicted():
    rng = torch.Generator().manual_seed(0)
    pair = torch.randn(2, 1000, 20, generator=rng)
    pair[1] = 0.3 * pair[0] + math.sqrt(1 - 0.09) * pair[1]
    layers = [MeanFieldLayer(2.0, 0.1, F.relu, 1000)] * 8
    predicted = propagate_correlation(layers, propagate(layers, 1.0).q, 0.3)
    for expected in predicted:
        weight = torch.randn(1000, 1000, generator=rng) * math.sqrt(2.0 / 1000)
        pair = weight @ pair + math.sqrt(0.1) * torch.randn(1000, 1, generator=rng)
        cosine = F.cosine_similarity(pair[0], pair[1], dim=0).mean()
        # a cosine of 1000 units has a deviation of 0.03; the mean of 20 pairs, of one chain of matrices, about 0.01
        assert float(cosine) == pytest.approx(expected, abs=0.03)
        pair = F.relu(pair)


def test_what_fits_no_network_is_refused():
    layers = [MeanFieldLayer(1.0, 0.0, torch.tanh, 10)] * 2
    with pytest.raises(InvalidOption, match=r"correlation of 1\.5"):
        propagate_correlation(layers, (1.0, 1.0), 1.5)
    with pytest.raises(ShapeError, match="1 second moments for 2 layers"):
        propagate_correlation(layers, (1.0,), 0.5)
