import numpy as np
import pytest
import torch

from deepforward.clinic.curvature import KAPPA, _identified_slope, clip_threshold
from deepforward.data import Dataset, Split
from deepforward.engine import Recipe
from deepforward.errors import NoEffect

RATE, MOMENTUM = 0.1, 0.9


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
    return base.replace(**changes).complete(regression=True)


def test_on_a_quadratic_the_smoothness_is_its_hessian_and_the_threshold_follows(line):
    """L = 2 everywhere, so L1 = 0 and the threshold is kappa median(|g| / 2) (1 - momentum) / rate."""
    measured = clip_threshold(recipe(), line, steps=3)
    assert measured.smoothness == pytest.approx((2.0,) * len(measured.smoothness), rel=0.01)  # differences of float32
    assert measured.rule == "kappa median(|g| / L) / rate"
    expected = KAPPA * np.median(measured.gradient_norms) / 2 * (1 - MOMENTUM) / RATE
    assert measured.threshold == pytest.approx(expected, rel=0.01)


def test_the_threshold_is_inverse_to_the_rate_so_that_the_longest_update_is_not(line):
    once, twice = clip_threshold(recipe(), line, steps=3), clip_threshold(recipe(learning_rate=2 * RATE), line, steps=3)
    assert once.threshold == pytest.approx(2 * twice.threshold, rel=0.01)


def test_l1_is_identified_where_smoothness_follows_the_norm_and_not_where_it_does_not():
    rng = np.random.default_rng(0)
    norms = np.geomspace(0.1, 10, 24)
    assert _identified_slope(norms, 2 + 5 * norms + 0.1 * rng.random(24), rng) == pytest.approx(5, rel=0.02)
    assert _identified_slope(norms, 7 + rng.random(24), rng) == 0.0
    assert _identified_slope(np.linspace(1, 2, 24), np.linspace(1, 2, 24), rng) == 0.0  # too little spread


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
