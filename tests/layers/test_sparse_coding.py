"""Sparse codes against scikit-learn's Lasso, the conditions of the solution, and the bounds of the theory."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

from deepforward.errors import InvalidOption, ShapeError, UnknownName
from deepforward.layers.sparse_coding import duality_gap, objective, soft_threshold, sparse_code
from deepforward.layers.synthesis import correlate, operator_norm, synthesise


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def filters():
    found = drawn(2, 1, 3, 3, seed=1)
    return found / found.flatten(1).norm(dim=1)[:, None, None, None]


@pytest.fixture
def images():
    return drawn(3, 1, 5, 6, seed=2)


@pytest.fixture
def best(filters, images, unchecked):
    with unchecked():
        return sparse_code(images, filters, WEIGHT, steps=5000, tolerance=1e-11)


WEIGHT = 3.0


def matrix(filters, height, width):
    count, _, side, columns = filters.shape
    shape = count, height + side - 1, width + columns - 1
    units = torch.eye(int(np.prod(shape)), dtype=filters.dtype).reshape(-1, *shape)
    return synthesise(units, filters).flatten(1).t().numpy()


@pytest.mark.parametrize("method", ["fista", "ista"])
def test_it_is_the_lasso_of_scikit_learn(filters, images, method, unchecked):
    """Lasso minimises |y - Xw|^2 / (2 n) + alpha |w|_1: ours divided by weight n, at alpha = 1 / (weight n)."""
    with unchecked():
        code = sparse_code(images, filters, WEIGHT, method=method, steps=20_000, tolerance=1e-10)
    design = matrix(filters, 5, 6)
    for i in range(2):
        y = images[i].flatten().numpy()
        lasso = Lasso(alpha=1 / (WEIGHT * len(y)), fit_intercept=False, tol=1e-14, max_iter=1_000_000).fit(design, y)
        theirs = WEIGHT / 2 * np.square(design @ lasso.coef_ - y).sum() + np.abs(lasso.coef_).sum()
        assert abs(code.objective[-1, i].item() - theirs) < 1e-8
        assert np.allclose(synthesise(code.maps[i : i + 1], filters).numpy().ravel(), design @ lasso.coef_, atol=1e-6)


def test_a_line_of_pixels_too(unchecked):
    """One dimension: filters and images of height 1."""
    filters, line = drawn(2, 1, 1, 3, seed=3), drawn(1, 1, 1, 12, seed=4)
    with unchecked():
        code = sparse_code(line, filters, 2.0, steps=5000, tolerance=1e-13)
    lasso = Lasso(alpha=1 / 24, fit_intercept=False, tol=1e-14, max_iter=1_000_000)
    lasso.fit(matrix(filters, 1, 12), line.flatten().numpy())
    assert np.allclose(code.maps.flatten().numpy(), lasso.coef_, atol=1e-6)  # the root of the gap


def test_the_conditions_of_the_solution_hold(filters, images, best):
    """weight R'(y - Rz) is the sign of z where z is not 0, and within [-1, 1] where it is (Karush, Kuhn, Tucker)."""
    slope, used = WEIGHT * correlate(images - best.fit, filters), best.maps != 0
    assert 0.1 < used.double().mean() < 0.9
    assert torch.allclose(slope[used], best.maps[used].sign(), atol=1e-4)  # the gap of 1e-10 bounds slopes to its root, times L
    assert slope[~used].abs().max() <= 1 + 1e-4
    assert torch.allclose(best.fit, synthesise(best.maps, filters), atol=1e-12)
    assert (best.gap <= 1e-11 * WEIGHT / 2 * images.square().sum((1, 2, 3))).all()


def test_a_step_is_a_gradient_step_and_a_threshold(filters, images):
    start = drawn(3, 2, 7, 8, seed=5)
    leaf = start.clone().requires_grad_()
    (WEIGHT / 2 * (synthesise(leaf, filters) - images).square().sum()).backward()
    threshold = 1 / (WEIGHT * operator_norm(filters, 7, 8).item() ** 2)
    wanted = start - threshold * leaf.grad
    wanted = wanted.sign() * (wanted.abs() - threshold).clamp(min=0)
    for method in ("ista", "fista"):
        code = sparse_code(images, filters, WEIGHT, method=method, steps=1, tolerance=0, start=start, restart=False)
        assert torch.allclose(code.maps, wanted, atol=1e-12)
        assert torch.allclose(code.objective[0], objective(start, synthesise(start, filters), images, WEIGHT))


def test_the_threshold_is_a_proximal_map():
    values, grid = drawn(5, seed=6), torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    best = ((grid - values[:, None]).square() / 2 + 0.7 * grid.abs()).argmin(1)
    assert torch.allclose(soft_threshold(values, 0.7), grid[best], atol=1e-4)  # the grid's step


@pytest.mark.parametrize("options", [{"method": "ista"}, {"method": "fista"}])
def test_the_objective_never_rises(filters, images, options, unchecked):
    """Rounding aside: 1e-13 of the objective in float64."""
    with unchecked():
        falls = sparse_code(images, filters, WEIGHT, steps=300, tolerance=0, **options).objective.diff(dim=0)
    assert falls.max() <= 1e-13 * images.square().sum()


def test_plain_fista_rises_now_and_then_which_is_what_restarting_is_for(filters, images, unchecked):
    with unchecked():
        assert sparse_code(images, filters, WEIGHT, steps=300, tolerance=0, restart=False).objective.diff(dim=0).max() > 1e-6


def test_the_bounds_of_theory(filters, images, best, unchecked):
    """ISTA L |z*|^2 / (2 k), FISTA 2 L |z*|^2 / (k + 1)^2 above the least objective (Beck and Teboulle 2009, 3.1 and 4.4)."""
    square = best.maps.square().sum((1, 2, 3)) * WEIGHT * operator_norm(filters, 7, 8).square()
    k = torch.arange(1, 201, dtype=torch.float64)[:, None]
    with unchecked():
        above = {
            name: sparse_code(images, filters, WEIGHT, steps=200, tolerance=0, **options).objective[1:] - best.objective[-1]
            for name, options in {"ista": {"method": "ista"}, "plain": {"restart": False}, "restarted": {}}.items()
        }
    assert (above["ista"] <= square / (2 * k) + 1e-9).all()
    assert (above["plain"] <= 2 * square / (k + 1).square() + 1e-9).all()
    assert (above["restarted"] <= 2 * square / (k + 1).square() + 1e-9).all()
    assert (above["restarted"][50] < above["ista"][50]).all()


def test_the_gap_bounds_the_distance_to_the_least_objective(filters, images, best):
    for steps in (1, 5, 50):
        code = sparse_code(images, filters, WEIGHT, steps=steps, tolerance=0)
        assert (code.gap >= code.objective[-1] - best.objective[-1] - 1e-10).all()
    zeros = torch.zeros(3, 2, 7, 8, dtype=torch.float64)
    assert (duality_gap(zeros, torch.zeros_like(images), images, filters, 1e-3) <= 1e-15).all()  # there z = 0 is the solution


def test_it_stops_where_it_was_told_to(filters, images):
    code = sparse_code(images, filters, WEIGHT, steps=2000, tolerance=1e-5)
    assert code.steps < 2000
    assert code.steps % 10 == 0
    assert len(code.objective) == code.steps + 1
    assert (code.gap <= 1e-5 * WEIGHT / 2 * images.square().sum((1, 2, 3))).all()


def test_images_do_not_know_of_each_other(filters, images):
    whole = sparse_code(images, filters, WEIGHT, steps=40, tolerance=0)
    alone = [sparse_code(image[None], filters, WEIGHT, steps=40, tolerance=0).maps for image in images]
    assert torch.allclose(whole.maps, torch.cat(alone), atol=1e-12)


def test_float32_agrees_with_float64(filters, images):
    """Rounding of some hundred products of size 1."""
    single = sparse_code(images.float(), filters.float(), WEIGHT, steps=100)
    double = sparse_code(images, filters, WEIGHT, steps=100)
    assert single.maps.dtype == torch.float32
    assert torch.allclose(single.objective[-1].double(), double.objective[-1], rtol=2e-4)


def test_images_and_filters_of_zeros_have_codes_of_zeros(filters, images):
    assert sparse_code(torch.zeros_like(images), filters, WEIGHT).maps.count_nonzero() == 0
    assert sparse_code(images, torch.zeros_like(filters), WEIGHT, steps=3).maps.count_nonzero() == 0


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (UnknownName, {"method": "lasso"}, "unknown method 'lasso'"),
        (InvalidOption, {"weight": 0.0}, "got weight=0.0"),
        (InvalidOption, {"steps": 0}, "steps=0"),
        (ShapeError, {"filters": torch.zeros(2, 3, 3, 3).double()}, "got images of 1 channels and filters of 3"),
        (ShapeError, {"start": torch.zeros(3, 2, 5, 6).double()}, "expected \\(2, 7, 8\\), or none"),
    ],
)
def test_bad_requests_are_refused(filters, images, error, options, message, unchecked):
    given = {"images": images, "filters": filters, "weight": WEIGHT} | options
    with unchecked(), pytest.raises(error, match=message):
        sparse_code(**given)
