import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.nn import functional as F

from deepforward.errors import InvalidOption
from deepforward.theory.spectra import bernoulli_class, gaussian_linear, jacobian_spectrum, smooth_class


def eigenvalues(phi, q, depth, weight_variance, width, orthogonal, rng):
    """Of J J^T for one network, pre-activations kept at second moment q by a bias."""
    h = torch.randn(width, generator=rng, dtype=torch.float64) * math.sqrt(q / weight_variance)
    jacobian = torch.eye(width, dtype=torch.float64)
    for _ in range(depth):
        matrix = torch.randn(width, width, generator=rng, dtype=torch.float64) / math.sqrt(width)
        if orthogonal:
            matrix, r = torch.linalg.qr(matrix)
            matrix = matrix * r.diagonal().sign()
        matrix = matrix * math.sqrt(weight_variance)
        z = matrix @ h
        lacking = max(q - float(z.square().mean()), 0.0)
        z = (z + math.sqrt(lacking) * torch.randn(width, generator=rng, dtype=torch.float64)).requires_grad_()
        h = phi(z)
        (slope,) = torch.autograd.grad(h.sum(), z)
        h, jacobian = h.detach(), slope[:, None] * (matrix @ jacobian)
    return torch.linalg.svdvals(jacobian).square().numpy()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_gaussian_linear_has_the_closed_forms_and_is_what_is_drawn(depth):
    law = gaussian_linear(depth)
    edge = (depth + 1) ** (depth + 1) / depth**depth
    assert (law.mean, law.variance, law.edge) == pytest.approx((1, depth, edge))
    same = jacobian_spectrum(lambda x: x, 1.0, depth, 1.0, orthogonal=False)
    assert (same.mean, same.variance, same.edge) == pytest.approx((1, depth, edge))
    drawn = eigenvalues(lambda x: x, 0.5, depth, 1.0, 200, False, torch.Generator().manual_seed(depth))
    # width 200: the largest strays by N^(-2/3) = 3 percent, times a factor that grows with depth
    assert drawn.max() == pytest.approx(edge, rel=0.2)


def test_density_of_one_gaussian_matrix_is_marchenko_pastur():
    x = np.linspace(0.05, 3.95, 60)
    assert gaussian_linear(1).density(x) == pytest.approx(np.sqrt(x * (4 - x)) / (2 * np.pi * x), abs=1e-3)


@pytest.mark.parametrize("variance", [0.25, 1.0, 2.0])
def test_the_bernoulli_class_is_lamberts_function(variance):
    law = bernoulli_class(variance)
    assert law.edge == pytest.approx(math.exp(variance) if variance <= 1 else math.e * variance)
    x = np.linspace(0.05, 0.97, 40) * law.edge
    u = -special.lambertw(-variance / (x - 1e-4j * x)) / variance
    assert law.density(x) == pytest.approx(np.abs((1 / (1 - u)).imag) / (np.pi * x), abs=2e-3)


def test_the_smooth_class_has_mass_mean_and_variance():
    law = smooth_class(0.5)
    root = (math.sqrt(1 + 4 / 0.5) - 1) / 2
    assert law.edge == pytest.approx((1 + root) / root * math.exp(0.5 * root))
    x = np.linspace(1e-3, law.edge * 1.1, 3000)
    density = law.density(x)
    moments = [np.trapezoid(density * x**k, x) for k in range(3)]
    # the resolution of 1e-4 smears the edges
    assert moments == pytest.approx([1, 1, 1.5], abs=5e-3)


def bernoulli(depth, variance):
    """q and sigma_w^2 for which hard-tanh is critical with P(phi' = 1) = p and L (1/p - 1) = s0^2."""
    p = 1 / (1 + variance / depth)
    return stats.norm.ppf((1 + p) / 2) ** -2, 1 / p


@pytest.mark.parametrize("depth", [4, 32, 400])
def test_hard_tanh_tends_to_the_bernoulli_class(depth):
    q, weight = bernoulli(depth, 1.0)
    law = jacobian_spectrum(F.hardtanh, q, depth, weight, orthogonal=True)
    # S of a projection is (1 + z)/(p + z)
    assert (law.mean, law.variance, law.edge) == pytest.approx((1, 1, (1 + 1 / depth) ** depth), rel=1e-8)
    x = np.linspace(0.2, 2, 20)
    assert law.density(x) == pytest.approx(bernoulli_class(1.0).density(x), rel=1.5 / depth)


def test_orthogonal_hard_tanh_is_what_is_drawn():
    q, weight = bernoulli(32, 1.0)
    drawn = eigenvalues(F.hardtanh, q, 32, weight, 300, True, torch.Generator().manual_seed(0))
    # width 300 against infinite depth and width; the lecture's companion measured 2.758 and 0.975 at width 1000
    assert drawn.max() == pytest.approx(math.e, rel=0.06)
    assert drawn.var() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("phi", "slope"), [(torch.erf, 2 / math.sqrt(math.pi)), (torch.atan, 1.0), (torch.tanh, 1.0)])
def test_smooth_activations_tend_to_the_smooth_class(phi, slope):
    depth = 300
    q = 1e-4
    law = jacobian_spectrum(phi, q, depth, 1 / slope**2, orthogonal=True)
    relative = law.variance / law.mean**2
    assert law.edge / law.mean == pytest.approx(smooth_class(relative).edge, rel=1e-3)


def test_orthogonal_erf_is_what_is_drawn():
    q, depth = 0.05, 24
    weight = 1 / (4 / math.pi / math.sqrt(1 + 4 * q))  # E[erf'^2] = (4/pi)/sqrt(1 + 4 q)
    law = jacobian_spectrum(torch.erf, q, depth, weight, orthogonal=True)
    assert law.mean == pytest.approx(1, rel=1e-9)
    drawn = np.sort(eigenvalues(torch.erf, q, depth, weight, 300, True, torch.Generator().manual_seed(1)))
    x = np.linspace(1e-3, 1.2 * law.edge, 600)
    below = np.cumsum(law.density(x)) * (x[1] - x[0])
    apart = np.abs(np.searchsorted(drawn, x) / len(drawn) - below).max()
    # eigenvalues repel, so that 300 of them stray less than independent numbers, whose distance would be 0.08
    assert apart < 0.05


def test_what_has_no_spectrum_is_refused():
    with pytest.raises(InvalidOption, match="depth = 0"):
        gaussian_linear(0)
    with pytest.raises(InvalidOption, match="variance = -1"):
        smooth_class(-1.0)
    with pytest.raises(InvalidOption, match="phi'"):
        jacobian_spectrum(lambda x: 0 * x, 1.0, 3, 1.0, orthogonal=True)
