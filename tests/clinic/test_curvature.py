import math

import numpy as np
import pytest
import torch

from deepforward.clinic.curvature import KAPPA, clip_threshold, threshold_of
from deepforward.data import Dataset, Split
from deepforward.engine import Recipe
from deepforward.errors import NoEffect
from deepforward.instruments import Smoothness
from deepforward.theory import fit_smoothness

RATE, MOMENTUM = 0.1, 0.9
#: Beyond 2 (1 + momentum) / L, L = 2.
UNSTABLE = 2.5


@pytest.fixture
def line():
    """One feature of mean square 1 and a linear model: the loss (w x + b - y)^2 has a constant Hessian diag(2, 2)."""
    inputs = torch.tensor([[1.0], [-1.0]]).repeat(32, 1)
    split = Split(inputs, 3 * inputs[:, 0] + 1)
    return Dataset("line", split, split, classes=())


def recipe(**changes):
    base = Recipe(
        model="perceptron",
        model_options={"depth": 0},
        objective="squared-error",
        scaling="none",
        validation=0.0,
        batch_size=64,
        optimizer="sgd",
        optimizer_options={"momentum": MOMENTUM},
        learning_rate=RATE,
    )
    return base.replace(**changes).complete("regression")


def walk(norms, smoothness):
    """A walk of which only these columns matter."""
    fit = fit_smoothness(norms, smoothness, torch.Generator().manual_seed(0))
    return Smoothness((), tuple(norms), tuple(smoothness), (), (), (), (), fit)


NORMS = np.geomspace(0.1, 10, 24).tolist()
FOLLOWS = walk(NORMS, [2 + 5 * norm for norm in NORMS])
CONSTANT = walk(NORMS, [7.0] * 24)


def test_on_a_quadratic_the_smoothness_is_its_hessian_and_the_threshold_follows(line):
    """L = 2 everywhere, so L1 = 0 and the threshold is kappa median(|g| / 2) (1 - momentum) / rate, if the rate is unstable."""
    found = clip_threshold(recipe(learning_rate=UNSTABLE), line, steps=3)
    assert found.measured.smoothness == pytest.approx((2.0,) * 3, rel=0.01)  # differences of float32
    assert found.rule == "kappa median(|g| / L) / rate"
    expected = KAPPA * np.median(found.measured.gradient_norms) / 2 * (1 - MOMENTUM) / UNSTABLE
    assert found.threshold == pytest.approx(expected, rel=0.01)
    assert found.proven is None  # theorem 3 wants L1


def test_where_every_step_is_stable_no_clipping_is_needed(line):
    found = clip_threshold(recipe(), line, steps=3)
    assert found.rule == "no clipping is needed" and found.threshold == math.inf


def test_a_rate_is_stable_until_the_steepest_point_is_not():
    """rate (L0 + L1 |g|) < 2 with L0 = 2, L1 = 5, |g| <= 10."""
    assert threshold_of(FOLLOWS, 0.999 * 2 / 52).threshold == math.inf
    assert threshold_of(FOLLOWS, 1.001 * 2 / 52).threshold == pytest.approx(KAPPA / (5 * 1.001 * 2 / 52), rel=0.01)


def test_with_l1_the_threshold_is_kappa_over_l1_and_the_rate():
    found = threshold_of(FOLLOWS, 0.5, kappa=2.0)
    assert found.rule == "kappa / (L1 rate)"
    assert found.threshold == pytest.approx(2.0 / (5 * 0.5), rel=0.01)  # written with three digits


def test_neither_l0_nor_l1_nor_their_ratio_alone_decides():
    """L0 / L1 is the same for all of these, and is 0 where L0 is: the threshold is neither."""
    thresholds = {rate: threshold_of(FOLLOWS, rate).threshold for rate in (0.1, 1.0, 10.0)}
    assert thresholds[0.1] == pytest.approx(10 * thresholds[1.0], rel=0.01) == pytest.approx(100 * thresholds[10.0], rel=0.01)
    without = threshold_of(walk(NORMS, [5 * norm for norm in NORMS]), 1.0)
    assert pytest.approx(0, abs=1e-9) == without.measured.fit.L0 and without.threshold == pytest.approx(KAPPA / 5, rel=0.01)


def test_where_l1_is_not_identified_the_median_length_stands_in():
    found = threshold_of(CONSTANT, 1.0)
    assert found.rule == "kappa median(|g| / L) / rate"
    assert found.threshold == pytest.approx(KAPPA * np.median(NORMS) / 7, rel=0.01)


def test_momentum_lengthens_the_longest_update_tenfold():
    assert threshold_of(FOLLOWS, 1.0, 0.9).threshold == pytest.approx(threshold_of(FOLLOWS, 1.0).threshold / 10, rel=0.01)


def test_theorem_3_stands_beside_with_the_papers_gamma():
    """gamma = 1 / (10 L1 eta_c), not 1 / (10 L0 eta_c) (E37); its steps are 30 times shorter than those of kappa = 3."""
    found = threshold_of(FOLLOWS, 1.0)
    assert found.proven is not None
    assert found.proven.eta_c == pytest.approx(1 / 20, rel=0.01)
    assert found.proven.eta_c * found.proven.gamma == pytest.approx(1 / (10 * 5), rel=0.01)
    assert threshold_of(CONSTANT, 1.0).proven is None


def test_the_threshold_is_inverse_to_the_rate_so_that_the_longest_update_is_not(line):
    once, twice = (clip_threshold(recipe(learning_rate=rate), line, steps=3) for rate in (UNSTABLE, 2 * UNSTABLE))
    assert once.threshold == pytest.approx(2 * twice.threshold, rel=0.01)


def test_an_adaptive_optimiser_is_sent_to_the_update_ratio(line):
    with pytest.raises(NoEffect, match="update_ratio"):
        clip_threshold(recipe(optimizer="adam", optimizer_options={}), line)


def test_at_a_rate_of_zero_there_is_nothing_to_clip(line):
    with pytest.raises(NoEffect, match="nothing moves"):
        clip_threshold(recipe(learning_rate=0.0), line)


def test_a_gradient_of_zero_gives_no_threshold(line, tmp_path):
    factory = tmp_path / "flat.py"
    factory.write_text(
        "import torch\nclass Flat(torch.nn.Linear):\n    def forward(self, x):\n        return 0 * super().forward(x)\n"
        "def make():\n    return Flat(1, 1)\n"
    )
    with pytest.raises(NoEffect, match="the gradient vanishes"):
        clip_threshold(recipe(model=f"{factory}:make", model_options={}), line)
