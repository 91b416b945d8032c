"""Restricted Boltzmann machines as estimators: likelihoods against enumeration, features against scikit-learn's own."""

from __future__ import annotations

from itertools import chain, product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline

from deepforward.engine import randomness, training
from deepforward.errors import InvalidData, InvalidOption, LikelihoodWarning, ShapeError
from deepforward.estimators import RBM, energy

STATES = np.array(list(product((0.0, 1.0), repeat=6)), np.float32)


PAIRS = np.random.default_rng(0).integers(0, 2, (200, 3)).repeat(2, axis=1).astype(np.float32)


def planted(n_components: int = 5, **parameters: Any) -> RBM:
    """A machine of 6 binary features with weights that were not trained but drawn."""
    rbm = RBM(**{"n_components": n_components, "n_iter": 1, "random_state": 0} | parameters).fit(STATES)
    with torch.no_grad():
        for parameter in rbm.model_.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return rbm


def log_likelihood_of_states(rbm: RBM) -> np.ndarray:
    """Log p(v) of all states of the visible units by enumeration of all states of both layers, in float64."""
    W, b, c = (a.astype(np.float64) for a in (rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_))
    hidden = np.array(list(product((0.0, 1.0), repeat=len(c))))
    joint = STATES @ W @ hidden.T + (STATES @ b)[:, None] + hidden @ c
    return logsumexp(joint, axis=1) - logsumexp(joint)


@pytest.mark.parametrize("n_components", [1, 5, 12])
def test_the_score_is_the_exact_likelihood(n_components: int) -> None:
    rbm = planted(n_components)
    exact = log_likelihood_of_states(rbm)
    assert np.ptp(exact) > 1
    assert np.allclose(rbm.score_samples(STATES), exact, atol=1e-5)  # log Z is counted in float32
    assert rbm.score(STATES) == pytest.approx(exact.mean(), abs=1e-5)
    assert rbm.log_partition_interval_ == (rbm.log_partition_, rbm.log_partition_)


def test_a_trained_machine_knows_which_features_agree() -> None:
    rbm = RBM(5, n_iter=20, learning_rate=0.3, momentum=0.9, random_state=0).fit(PAIRS)
    assert rbm.score(PAIRS) > -3.4  # independent units have -6 log 2 = -4.16, the truth -3 log 2 = -2.08; seen: -2.89


def test_the_score_of_fractions_bounds_that_of_draws_from_below() -> None:
    rbm = planted()
    exact = log_likelihood_of_states(rbm)
    fractions = np.random.default_rng(1).random((20, 6)).astype(np.float32)
    chances = np.prod(np.where(STATES == 1, fractions[:, None], 1 - fractions[:, None]), axis=2)
    bound, mean = rbm.score_samples(fractions), chances @ exact
    assert (bound < mean).all()
    assert (mean - bound).mean() < 2


def test_fractions_are_rounded_where_training_rounded_them() -> None:
    rbm = planted(binarize="threshold")
    fractions = np.random.default_rng(1).random((20, 6))
    assert np.array_equal(rbm.score_samples(fractions), rbm.score_samples(fractions.round()))


@pytest.mark.parametrize("hidden", ["binary", "relu"])
@pytest.mark.parametrize("scaling", ["auto", "standardise", "min-max", "min-max?low=-2&high=3", "none"])
def test_the_density_of_gaussian_units_is_one_of_the_data(hidden: str, scaling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_TEMPERATURES", 300)  # enough for a machine of four units
    X = np.random.default_rng(0).normal(5, 10, (200, 1))
    gaussian = {"visible": "gaussian", "hidden": hidden, "scaling": scaling}
    rbm = RBM(3, **gaussian, n_iter=3, learning_rate=0.01 if scaling != "none" else 1e-4, random_state=0).fit(X)
    grid = np.arange(-1000, 1100, 0.125)[
        :, None
    ]  # a unit of the model is 1 to 50 of the data; float32 holds the points exactly
    # The trapezoidal rule is exact to rounding here; log Z is in float32, or annealed, whose error is the looser bound.
    assert np.trapezoid(np.exp(rbm.score_samples(grid)), grid[:, 0]) == pytest.approx(
        1, abs=1e-5 if hidden == "binary" else 0.05
    )


def test_no_density_of_the_data_belongs_to_gaussian_units_behind_a_logistic() -> None:
    """A part of theirs lies outside of (0, 1), where no data are."""
    X = np.random.default_rng(0).normal(50, 10, (200, 2))
    rbm = RBM(3, visible="gaussian", scaling="softmax?r=2", n_iter=1, learning_rate=0.01, random_state=0).fit(X)
    for score in (rbm.score_samples, rbm.score):
        with pytest.raises(InvalidOption, match=r"scaling='softmax\?r=2'.*expected standardise, min-max or none"):
            score(X)
    assert rbm.transform(X).shape == (200, 3)


def test_groups_of_softmax_units_take_one_hot_columns() -> None:
    category = np.random.default_rng(0).integers(0, 3, 200)
    X = np.hstack([np.eye(3)[category]] * 2)  # two groups that agree
    rbm = RBM(4, visible="softmax", n_categories=3, n_iter=30, learning_rate=0.3, momentum=0.9, random_state=0).fit(X)
    pairs = np.array([np.concatenate((a, b)) for a in np.eye(3) for b in np.eye(3)])
    chances = np.exp(rbm.score_samples(pairs))
    assert chances.sum() == pytest.approx(1, abs=1e-5)
    assert chances[[0, 4, 8]].sum() > 0.7  # independent groups give 1/3
    assert (rbm.sample(10, random_state=0).reshape(10, 2, 3).sum(2) == 1).all()
    with pytest.raises(InvalidData, match="sum of group"):
        rbm.transform(np.ones((1, 6)))


def test_features_are_those_of_scikit_learn_with_the_same_weights() -> None:
    rbm = planted()
    peer = BernoulliRBM(5).fit(STATES)
    peer.components_, peer.intercept_hidden_ = rbm.components_, rbm.intercept_hidden_
    assert np.allclose(rbm.transform(STATES), peer.transform(STATES), atol=1e-6)
    assert rbm.transform(STATES).dtype == np.float32


def test_a_feature_depends_on_no_other_example() -> None:
    rbm, X = planted(100), np.random.default_rng(0).random((500, 6)).astype(np.float32)
    alone = np.concatenate([rbm.transform(row[None]) for row in X])
    assert np.array_equal(rbm.transform(X), alone)


def test_inverse_transform_gives_means_in_the_units_of_the_data() -> None:
    X = np.random.default_rng(0).random((50, 6)) * 8 - 4
    rbm = RBM(5, n_iter=2, random_state=0).fit(X)
    hidden = rbm.transform(X)
    means = expit(hidden @ rbm.components_ + rbm.intercept_visible_)
    low, high = X.min(0), X.max(0)
    assert np.allclose(rbm.inverse_transform(hidden), low + means * (high - low), atol=1e-5)
    with pytest.raises(ShapeError, match="got 6 columns; expected 5"):
        rbm.inverse_transform(X)


def test_the_pseudo_likelihood_is_that_of_each_feature_given_the_others() -> None:
    rbm = planted()
    log_p = dict(zip(map(tuple, STATES), log_likelihood_of_states(rbm), strict=True))
    expected = np.zeros(len(STATES))
    for row, state in enumerate(STATES):
        for unit in range(6):
            other = state.copy()
            other[unit] = 1 - other[unit]
            expected[row] += log_p[tuple(state)] - np.logaddexp(log_p[tuple(state)], log_p[tuple(other)])
    assert np.allclose(rbm.pseudo_likelihood(STATES), expected, atol=1e-4)  # sums of six numbers in float32
    drawn = rbm.pseudo_likelihood(np.tile(STATES, (100, 1)), exact=False)
    assert drawn.mean() == pytest.approx(expected.mean(), abs=4 * drawn.std() / np.sqrt(len(drawn)))
    with pytest.raises(InvalidOption, match="expected binary"):
        RBM(2, visible="gaussian", n_iter=1).fit(STATES).pseudo_likelihood(STATES)


def test_draws_are_distributed_as_the_score_says() -> None:
    rbm = planted()
    drawn = rbm.sample(20_000, n_sweeps=50, random_state=0)
    counts = np.bincount((drawn @ 2 ** np.arange(5, -1, -1)).astype(int), minlength=64)
    expected = np.exp(rbm.score_samples(STATES)) * len(drawn)
    # Chi-squared has mean 63 and deviation 11.2; beyond 63 + 6 deviations with a chance below 1e-6.
    assert ((counts - expected) ** 2 / expected).sum() < 130
    with pytest.raises(InvalidOption, match="n_samples=0"):
        rbm.sample(0)


def test_partial_fit_over_batches_learns() -> None:
    rbm = RBM(5, learning_rate=0.3, momentum=0.0, batch_size=25, random_state=0)
    for _ in range(40):
        for batch in np.split(PAIRS, 2):
            assert rbm.partial_fit(batch) is rbm
    assert rbm.score(PAIRS) > -3.4  # independent units have -4.16, the truth -2.08


def test_partial_fit_goes_on_after_fit_at_the_present_rate() -> None:
    rbm = planted()
    before = rbm.components_.copy()
    assert rbm.score(STATES) < 0
    rbm.set_params(learning_rate=0.0).partial_fit(STATES)
    assert np.array_equal(rbm.components_, before)
    rbm.set_params(learning_rate=0.1).partial_fit(STATES)
    assert not np.array_equal(rbm.components_, before)
    assert rbm.score(STATES) == pytest.approx(log_likelihood_of_states(rbm).mean(), abs=1e-5)  # with log Z computed anew


def test_what_comes_after_fit_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the order, and not with the noise, that `fit` began with; and the same each time."""
    orders: list[list[list[int]]] = []
    draw = training.draw_batches

    def noted(*arguments: Any) -> Any:
        batches = draw(*arguments)
        orders.append([batch.tolist() for batch in batches])
        return batches

    for module in (training, energy):
        monkeypatch.setattr(module, "draw_batches", noted)
    rbm = RBM(3, n_iter=1, random_state=0).fit(STATES)
    noise = rbm._rng.initial_seed()
    rbm.partial_fit(STATES)
    RBM(3, n_iter=1, random_state=0).fit(STATES).partial_fit(STATES)
    fitted, later, *again = orders
    assert sorted(chain.from_iterable(fitted)) == sorted(chain.from_iterable(later)) == list(range(64))
    assert fitted != later
    assert again == [fitted, later]
    assert noise != randomness.stream(rbm.recipe_.seed, "objective").initial_seed()


def test_persistent_chains_go_on_from_call_to_call() -> None:
    rbm = RBM(1, learning_rate=0.0, random_state=0).partial_fit(STATES)
    model, objective = rbm.model_, rbm._parts.objective
    with torch.no_grad():  # two modes, all 0 and all 1, that no chain ever leaves
        model.weight.fill_(100)
        model.visible_units.bias.fill_(-50)
        model.hidden_units.bias.fill_(-300)
        for chain in objective.persistent_chains:
            chain.fill_(1)
    rbm.partial_fit(STATES)
    assert all((chain == 1).all() for chain in rbm._parts.objective.persistent_chains)


def test_chains_may_start_at_the_data() -> None:
    rbm = RBM(5, persistent=False, n_iter=20, learning_rate=0.3, momentum=0.9, random_state=0).fit(PAIRS)
    assert rbm._parts.objective.persistent_chains == ()
    assert rbm.score(PAIRS) > -3.4  # as above; seen: -2.77


def test_parameters_reach_the_recipe() -> None:
    rbm = planted(k=2, n_chains=7, temperatures=3, centre=False, sparsity=0.2, momentum=0.5, weight_decay=0.01, n_iter=2)
    options = rbm.recipe_.objective_options
    wanted = {"steps": 2, "chains": 7, "temperatures": 3, "centre": False, "sparsity": 0.2, "persistent": True}
    assert {name: options[name] for name in wanted} == wanted
    assert rbm.recipe_.optimizer_options == {"momentum": 0.5}
    assert (rbm.recipe_.weight_decay, rbm.recipe_.epochs) == (0.01, 2)


def moved(images: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each image where it stands and a pixel to each of four sides, flattened, and its class."""
    places = [images, *(np.roll(images, shift, axis) for axis in (1, 2) for shift in (-1, 1))]
    return np.concatenate(places).reshape(-1, 64), np.tile(classes, 5)


def test_features_of_digits_help_a_linear_classifier(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Digits that stand one pixel aside: what scikit-learn shows its own machine with."""
    images, classes = digits
    # Images are split first and moved then: no test image is one of training moved aside.
    order = np.random.default_rng(0).permutation(len(images))
    train, test = (moved(images[rows].reshape(-1, 8, 8), classes[rows]) for rows in (order[:400], order[400:]))
    linear = LogisticRegression(C=10, max_iter=1000)
    machine = RBM(100, n_iter=10, learning_rate=0.3, random_state=0)
    raw = linear.fit(*train).score(*test)
    features = make_pipeline(machine, linear).fit(*train).score(*test)
    assert features > raw + 0.05, (features, raw)  # over five seeds the difference was 0.072 to 0.087


def test_a_likelihood_that_rests_on_one_chain_comes_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_TEMPERATURES", 2)
    rbm = RBM(30, n_iter=1, learning_rate=0.01, random_state=0).fit(np.eye(40, dtype=np.float32))
    with torch.no_grad():
        rbm.model_.weight.normal_(0, 3, generator=torch.Generator().manual_seed(0))
    with pytest.warns(LikelihoodWarning, match=r"1\.\d of 100 annealed chains.*lower learning_rate"):
        assert np.isfinite(rbm.score(np.eye(40, dtype=np.float32)))
    assert rbm.log_partition_interval_[0] == -np.inf
