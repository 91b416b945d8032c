"""The Hopfield network as an estimator."""

from __future__ import annotations

import numpy as np
import pytest

from deepforward.errors import InvalidData, InvalidOption, UnknownName
from deepforward.estimators import Hopfield

PATTERNS = np.random.default_rng(0).choice([-1.0, 1.0], (5, 200))


def damaged(patterns: np.ndarray, share: float = 0.1) -> np.ndarray:
    return patterns * np.where(np.random.default_rng(1).random(patterns.shape) < share, -1, 1)


@pytest.mark.parametrize("rule", ["hebb", "pseudo-inverse"])
@pytest.mark.parametrize("mode", ["asynchronous", "synchronous"])
def test_damaged_patterns_are_recalled(rule: str, mode: str) -> None:
    # 5 patterns in 200 units are a load of 0.025, far below 0.138.
    network = Hopfield(rule, mode=mode).fit(PATTERNS)
    assert np.array_equal(network.transform(damaged(PATTERNS)), PATTERNS)
    assert np.array_equal(network.predict(damaged(PATTERNS)), PATTERNS)
    assert network.patterns_.dtype == np.int8


def test_bits_stay_bits_and_reals_become_signs() -> None:
    bits = (PATTERNS + 1) / 2
    network = Hopfield().fit(bits)
    assert np.array_equal(network.transform((damaged(PATTERNS) + 1) / 2), bits)
    assert network.levels_ == (0.0, 1.0)
    assert (network.threshold_ == 0.5).all()
    reals = np.random.default_rng(2).normal(np.arange(200), 3, (5, 200)).astype(np.float32)
    network = Hopfield().fit(reals)
    assert np.allclose(network.threshold_, reals.mean(0))
    assert np.array_equal(network.patterns_ > 0, reals > reals.mean(0, np.float64))


def test_a_threshold_may_be_given() -> None:
    X = np.array([[0.1, 0.3, 0.9]])
    assert Hopfield(threshold=0.2).fit(X).patterns_.tolist() == [[-1, 1, 1]]
    assert Hopfield(threshold=np.float32(0.5)).fit(X).patterns_.tolist() == [[-1, -1, 1]]
    with pytest.raises(InvalidOption, match="expected 'auto' or a number"):
        Hopfield(threshold="middle").fit(X)


@pytest.mark.parametrize("rule", ["hebb", "pseudo-inverse"])
def test_partial_fit_stores_besides(rule: str) -> None:
    together = Hopfield(rule).fit(PATTERNS)
    one_by_one = Hopfield(rule)
    for pattern in PATTERNS:
        assert one_by_one.partial_fit(pattern[None]) is one_by_one
    assert np.allclose(one_by_one.model_.weights, together.model_.weights, atol=1e-12)
    assert np.array_equal(one_by_one.patterns_, together.patterns_)
    assert len(together.fit(PATTERNS[:2]).patterns_) == 2


def test_the_score_is_minus_the_energy() -> None:
    network, states = Hopfield().fit(PATTERNS), damaged(PATTERNS)
    weights = PATTERNS.T @ PATTERNS / 200
    np.fill_diagonal(weights, 0)
    expected = 0.5 * np.einsum("pi,ij,pj->p", states, weights, states)
    assert np.allclose(network.score_samples(states), expected)
    assert network.score(states) == pytest.approx(expected.mean())
    assert network.score(PATTERNS) > network.score(states)


def test_draws_are_memories_and_repeatable() -> None:
    network = Hopfield(random_state=0).fit(PATTERNS)
    drawn = network.sample(50)
    assert np.array_equal(network.transform(drawn), drawn)
    assert np.array_equal(drawn, network.sample(50))
    assert not np.array_equal(drawn, network.sample(50, random_state=1))
    stored = np.abs(drawn @ PATTERNS.T).max(1) == 200
    assert stored.mean() > 0.2  # a share ends in stored patterns or their opposites, others in mixtures


def test_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean hebb"):
        Hopfield("hebbs").fit(PATTERNS)
    with pytest.raises(InvalidData, match="span all 3 dimensions"):
        Hopfield("pseudo-inverse").fit(np.eye(3) * 2 - 1)
