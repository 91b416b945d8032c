"""The formulas are held against torch's batch normalisation and against autograd, in float64."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepforward.errors import ShapeError
from deepforward.layers.normalization import (
    Population,
    covariance,
    folded_affine,
    naive_descent,
    normalize_batch,
    normalize_batch_backward,
    population_statistics,
    whiten,
    whiten_backward,
)

#: Sums of some hundred terms of order 1 in float64.
CLOSE = {"rtol": 0, "atol": 1e-12}


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def normal(rng, *shape):
    return torch.randn(shape, generator=rng, dtype=torch.float64)


@pytest.fixture
def batch(rng):
    """x, gamma, beta and a derivative of the loss by y."""
    return 3 * normal(rng, 17, 5) + normal(rng, 5), normal(rng, 5), normal(rng, 5), normal(rng, 17, 5)


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_forward_is_torchs(batch, eps):
    x, gamma, beta, _ = batch
    assert torch.allclose(
        normalize_batch(x, gamma, beta, eps).y, F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps), **CLOSE
    )


def test_images_are_rows_of_pixels(rng):
    images, gamma, beta = normal(rng, 3, 4, 5, 6), normal(rng, 4), normal(rng, 4)
    rows = images.movedim(1, -1).reshape(-1, 4)
    expected = F.batch_norm(images, None, None, gamma, beta, training=True)
    assert torch.allclose(normalize_batch(rows, gamma, beta).y, expected.movedim(1, -1).reshape(-1, 4), **CLOSE)


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_the_six_lines_are_autograds(batch, eps):
    x, gamma, beta, dl_dy = batch
    given = [tensor.clone().requires_grad_() for tensor in (x, gamma, beta)]
    expected = torch.autograd.grad(
        (F.batch_norm(given[0], None, None, *given[1:], training=True, eps=eps) * dl_dy).sum(), given
    )
    for ours, theirs in zip(normalize_batch_backward(dl_dy, x, gamma, eps), expected, strict=True):
        assert torch.allclose(ours, theirs, **CLOSE)


def test_it_can_be_the_identity(batch):
    x = batch[0]
    y = normalize_batch(x, x.var(0, correction=0).sqrt(), x.mean(0), eps=0.0).y
    assert torch.allclose(y, x, **CLOSE)


def test_population_statistics_are_torchs_without_momentum(rng):
    batches = 2 * normal(rng, 9, 6, 4) + normal(rng, 4)
    norm = nn.BatchNorm1d(4, momentum=None, dtype=torch.float64)
    for rows in batches:
        norm(rows)
    mean, variance = population_statistics(batches)
    assert torch.allclose(mean, norm.running_mean, **CLOSE)
    assert torch.allclose(variance, norm.running_var, **CLOSE)


def test_the_variance_is_unbiased(rng):
    batches = normal(rng, 40_000, 2, 1)  # m/(m - 1) = 2: without it 1/2 would come out
    # of one batch the estimate is chi^2 with one degree of freedom, standard deviation sqrt(2): five of the mean's
    assert float(population_statistics(batches).variance) == pytest.approx(1, abs=5 * math.sqrt(2 / 40_000))


def test_batches_of_one_row_are_refused():
    with pytest.raises(ShapeError, match="one has no variance") as caught:
        population_statistics(torch.zeros(3, 1, 2))
    assert "\n" not in str(caught.value)


def test_inference_is_an_affine_map(batch):
    x, gamma, beta, _ = batch
    norm = nn.BatchNorm1d(5, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.copy_(gamma)
        norm.bias.copy_(beta)
        norm(x)
    scale, shift = folded_affine(Population(norm.running_mean, norm.running_var), gamma, beta)
    assert torch.allclose(scale * x + shift, norm.eval()(x), **CLOSE)


def test_a_bias_before_a_constant_mean_grows_without_effect(rng):
    u, targets = normal(rng, 50, 3), normal(rng, 50, 3) + 1  # their mean of 1 cannot be reached by centred outputs

    def loss(y):
        return ((y - targets) ** 2).sum(1).mean() / 2

    descent = naive_descent(u, loss, 0.5, 200)
    assert torch.allclose(descent.outputs[1], descent.outputs[0], rtol=0, atol=1e-12)  # biases of 100 round off 1e-14
    assert torch.allclose(descent.losses, descent.losses[0].expand(201), rtol=0, atol=1e-12)
    # dl/dx_hat summed over the batch is E[x_hat - targets] = -E[targets]: the bias moves as far at each step
    assert torch.allclose(descent.biases[-1], 100 * targets.mean(0), rtol=1e-9)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (through,) = torch.autograd.grad(loss(u + bias - (u + bias).mean(0)), bias)
    assert torch.allclose(through, torch.zeros(3, dtype=torch.float64), **CLOSE)


def test_covariance_is_torchs(batch):
    assert torch.allclose(covariance(batch[0]), torch.cov(batch[0].T, correction=0), **CLOSE)


def test_whitened_columns_are_uncorrelated(batch):
    y = whiten(batch[0])
    assert torch.allclose(covariance(y), torch.eye(5, dtype=torch.float64), **CLOSE)
    assert torch.allclose(y.mean(0), torch.zeros(5, dtype=torch.float64), **CLOSE)


def test_of_one_column_it_is_batch_normalisation(batch):
    x, one = batch[0][:, :1], torch.ones(1, dtype=torch.float64)
    assert torch.allclose(whiten(x, 1e-3), normalize_batch(x, one, 0 * one, 1e-3).y, **CLOSE)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_whitening_backward_is_autograds(batch, eps):
    x, _, _, dl_dy = batch
    given = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad((whiten(given, eps) * dl_dy).sum(), given)
    assert torch.allclose(whiten_backward(dl_dy, x, eps), expected, **CLOSE)


def test_whitening_backward_needs_no_distinct_eigenvalues(rng):
    """Autograd through the eigenvectors divides by differences of eigenvalues; white rows have none."""
    x, dl_dy = whiten(normal(rng, 17, 5)), normal(rng, 17, 5)
    direction, h = normal(rng, 17, 5), 1e-5
    slope = ((whiten(x + h * direction) - whiten(x - h * direction)) * dl_dy).sum() / (2 * h)
    # central differences: truncation of order h^2 = 1e-10 and rounding of order 1e-15/h = 1e-10, times a sum of 85 terms
    assert float((whiten_backward(dl_dy, x) * direction).sum()) == pytest.approx(float(slope), abs=1e-6)


def test_too_few_rows_to_whiten_are_refused(rng):
    with pytest.raises(ShapeError, match="4 rows of 5 columns") as caught:
        whiten(torch.zeros(4, 5))
    assert "\n" not in str(caught.value)
