"""Stacks as estimators: stages of training, and bounds of the likelihood against enumeration."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from deepforward.errors import InvalidOption, ShapeError
from deepforward.estimators import DBM, DBN, energy

STATES = np.array(list(product((0.0, 1.0), repeat=6)), np.float32)
PAIRS = np.random.default_rng(0).integers(0, 2, (200, 3)).repeat(2, axis=1).astype(np.float32)


def dbn(**parameters: Any) -> DBN:
    own = {"hidden": (5, 4), "n_iter": 20, "learning_rate": 0.3, "momentum": 0.9}
    return DBN(**own | {"random_state": 0} | parameters)


def dbm(**parameters: Any) -> DBM:
    own = {"hidden": (5, 4), "n_iter": 20, "n_pretraining_iter": 10, "learning_rate": 0.1, "momentum": 0.9}
    return DBM(**own | {"random_state": 0} | parameters)


@pytest.mark.parametrize("make", [dbn, dbm])
def test_the_score_is_a_lower_bound_of_the_exact_likelihood(make: Any) -> None:
    stack = make().fit(PAIRS)
    exact = stack.model_.exact_log_probability(torch.from_numpy(STATES)).numpy()
    assert np.exp(exact).sum() == pytest.approx(1, abs=1e-4)  # float32 sums over 64 states
    scores = stack.score_samples(STATES)
    assert (scores <= exact + 1e-4).all()
    assert (exact - scores).mean() < 0.5
    assert stack.score(PAIRS) > -3.9  # independent units have -6 log 2 = -4.16, the truth -3 log 2 = -2.08


def test_a_belief_network_is_trained_layer_by_layer_and_then_fine_tuned() -> None:
    tuned = dbn(k=2, n_iter=2, n_fine_tuning_iter=1, fine_tuning_rate=0.02, momentum=0.5).fit(PAIRS)
    stages = [*tuned.recipe_.pretraining, {"objective": tuned.recipe_.objective, "epochs": tuned.recipe_.epochs}]
    greedy = "layerwise-contrastive-divergence"
    assert [(s["objective"], s["epochs"]) for s in stages] == [(greedy, 2), (greedy, 2), ("up-down", 1)]
    assert [s["objective_options"]["layer"] for s in stages[:2]] == [0, 1]
    assert all(s["learning_rate"] == 0.3 and s["objective_options"]["steps"] == 2 for s in stages[:2])
    assert all(s["optimizer_options"] == {"momentum": 0.5} for s in stages[:2])
    assert tuned.recipe_.learning_rate == 0.02
    assert not tuned.model_.tied
    untuned = dbn(n_iter=2, n_fine_tuning_iter=0).fit(PAIRS)
    assert (untuned.recipe_.objective, untuned.recipe_.objective_options["layer"]) == (greedy, 1)
    assert len(untuned.recipe_.pretraining) == 1
    assert untuned.model_.tied


def test_a_boltzmann_machine_is_trained_layer_by_layer_or_at_once() -> None:
    both = dbm(n_iter=2, n_pretraining_iter=1, k=3, n_chains=7).fit(PAIRS)
    assert [stage["epochs"] for stage in both.recipe_.pretraining] == [1, 1]
    assert both.recipe_.objective == "contrastive-divergence"
    assert both.recipe_.objective_options["steps"] == 3
    assert both._parts.objective.persistent_chains[0].shape == (7, 6)
    at_once = dbm(n_iter=2, n_pretraining_iter=0).fit(PAIRS)
    assert at_once.recipe_.pretraining == ()


def test_all_layers_of_a_boltzmann_machine_learn_at_once(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the default rate, from small weights: why it is neither greedy nor uncentred by default."""
    monkeypatch.setattr(energy, "_TEMPERATURES", 1000)
    images = digits[0]
    train, test = images[:1347], images[1347:]
    on = (train.sum(0) + 1) / (len(train) + 2)
    independent = (test * np.log(on) + (1 - test) * np.log(1 - on)).sum(1).mean()
    machine = DBM((100, 100), n_iter=5, random_state=0).fit(train)
    assert machine.recipe_.pretraining == ()
    assert machine.score(test) > independent + 3  # over three seeds 4.8 to 4.9; after greedy training -1.1, uncentred 1.0


@pytest.mark.parametrize("make", [dbn, dbm])
def test_partial_fit_trains_each_stage_and_then_the_last(make: Any) -> None:
    stack = make(learning_rate=0.01 if make is dbm else 0.1)
    assert stack.partial_fit(PAIRS[:100]) is stack
    assert all(stage["epochs"] == 1 for stage in stack.recipe_.pretraining)
    before, features, log_z = stack.recipe_, stack.transform(PAIRS), stack.log_partition_
    assert stack.partial_fit(PAIRS[100:]) is stack
    assert stack.recipe_ is before
    assert not np.array_equal(stack.transform(PAIRS), features)
    assert stack._parts.optimizers[""].param_groups[0]["lr"] == 0.01
    assert stack.log_partition_ != log_z


def test_features_are_passed_down_again() -> None:
    stack = dbn().fit(2 * PAIRS)
    assert stack.recipe_.scaling == "min-max"
    means = stack.inverse_transform(stack.transform(2 * PAIRS))
    assert means.shape == PAIRS.shape
    chance = np.mean((2 * PAIRS - 2 * PAIRS.mean(0)) ** 2)
    assert np.mean((means - 2 * PAIRS) ** 2) < 0.9 * chance
    with pytest.raises(ShapeError, match="got 6 columns; expected 4"):
        stack.inverse_transform(PAIRS)


def test_no_layers_or_too_few_are_refused() -> None:
    with pytest.raises(InvalidOption, match="hidden"):
        dbn(hidden=()).fit(PAIRS)
    with pytest.raises(InvalidOption, match="expected at least 2 "):
        dbm(hidden=(5,)).fit(PAIRS)
