import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from deepforward.errors import ShapeError
from deepforward.theory import fit_smoothness


def rng():
    return torch.Generator().manual_seed(0)


NOISE = np.random.default_rng(0).random(24)


def test_the_fit_is_the_least_squares_fit_with_non_negative_coefficients():
    """Against a general minimiser, which stops at relative 1e-6."""
    norms = np.geomspace(0.1, 10, 24)
    for smoothness in (2 + 5 * norms + NOISE, 50 - 3 * norms + NOISE, 5 * norms - 0.04 + NOISE / 100):
        fit = fit_smoothness(norms, smoothness, rng())
        slow = minimize(
            lambda c, bends=smoothness: ((c[0] + c[1] * norms - bends) ** 2).sum(),
            (1.0, 1.0),
            bounds=[(0, None)] * 2,
            options={"ftol": 1e-15},
        )
        assert pytest.approx(slow.x, rel=1e-4, abs=1e-4) == (fit.L0, fit.L1)


def test_l1_is_identified_where_smoothness_follows_the_norm():
    norms = np.geomspace(0.1, 10, 24)
    fit = fit_smoothness(norms, 2 + 5 * norms + 0.1 * NOISE, rng())
    assert fit.identified
    assert pytest.approx(5, rel=0.02) == fit.L1
    assert fit.L1_low <= fit.L1 <= fit.L1_high
    assert fit.spread == pytest.approx(100)
    assert fit.share == pytest.approx(50 / 52, rel=0.01)
    assert fit.correlation == pytest.approx(np.corrcoef(np.log(norms), np.log(2 + 5 * norms + 0.1 * NOISE))[0, 1], rel=1e-9)


def test_l1_is_not_identified_where_the_norm_hardly_varies():
    norms = np.linspace(1, 2.9, 24)
    assert not fit_smoothness(norms, 5 * norms, rng()).identified
    assert fit_smoothness(np.linspace(1, 3.1, 24), 5 * np.linspace(1, 3.1, 24), rng()).identified


def test_l1_is_not_identified_where_it_makes_up_the_lesser_part():
    norms = np.linspace(1, 10, 24)
    assert not fit_smoothness(norms, 100 + 5 * norms, rng()).identified


def test_l1_is_not_identified_where_it_rests_on_one_point():
    """Without the last point the slope is zero, and one bootstrap in three is without it (0.96^24 = 0.36)."""
    norms = np.append(np.linspace(1, 2, 23), 10.0)
    fit = fit_smoothness(norms, np.append(np.full(23, 4.0), 100.0), rng())
    assert fit.share > 0.5 and fit.spread == 10
    assert fit.L1_low == 0 and not fit.identified


def test_constant_columns_have_no_correlation_and_three_points_are_needed():
    assert fit_smoothness([1.0, 1.0, 1.0], [2.0, 3.0, 4.0], rng()).correlation == 0
    for norms, smoothness in (([1.0, 2.0], [1.0, 2.0]), ([1.0, 2.0, 3.0], [1.0, 2.0])):
        with pytest.raises(ShapeError):
            fit_smoothness(norms, smoothness, rng())
