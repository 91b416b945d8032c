from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deepforward.clinic import Evidence, trial
from deepforward.clinic.trials import WORTHWHILE, attempts, interval, judge
from deepforward.data import load
from deepforward.engine import Recipe
from deepforward.errors import InvalidOption, NoEffect
from tests.clinic.examples import history

CHANCE = 2.302585
RECIPE = Recipe(model="perceptron", model_options={"depth": 1, "width": 8}, epochs=2, threads=1)


def runs(*progress: float, **fields: object) -> list[Evidence]:
    return [Evidence(history=history(CHANCE * (1 - p)), chance=CHANCE, **fields) for p in progress]


def verdict(before: list[Evidence], after: list[Evidence]):
    return judge(RECIPE.complete(), "x", "no-progress", seeds=range(len(before)), untreated=before, treated=after)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8).filter(lambda x: np.std(x) > 1e-6))
def test_the_interval_is_that_of_the_paired_t_test(differences):
    expected = stats.ttest_rel(differences, np.zeros(len(differences))).confidence_interval(0.95)
    assert interval(np.array(differences)) == pytest.approx(tuple(expected))


def test_the_interval_covers_the_mean_as_often_as_it_says():
    """95% of 2000 intervals of 3 normal differences; the count lies within 4 standard errors with probability 0.99994."""
    draws = np.random.default_rng(0).normal(0.3, 0.1, size=(2000, 3))
    covered = sum(low <= 0.3 <= high for low, high in map(interval, draws))
    assert abs(covered - 1900) < 4 * (2000 * 0.95 * 0.05) ** 0.5


def test_a_clear_gain_is_a_cure():
    result = verdict(runs(0.0, 0.01, 0.0), runs(0.9, 0.92, 0.88))
    assert (result.outcome, result.silent) == ("cured", 3)
    assert result.difference == pytest.approx(0.8967, abs=1e-4)
    assert result.interval[0] > WORTHWHILE


def test_a_gain_within_the_noise_is_not():
    assert verdict(runs(0.0, 0.0, 0.0), runs(0.9, 0.0, 0.2)).outcome == "inconclusive"


def test_a_gain_that_leaves_the_finding_is_not():
    after = [replace(e, twin=None) for e in runs(0.5, 0.5, 0.5)]
    lagging = [replace(e, twin=runs(0.95)[0]) for e in after]
    ill = judge(RECIPE.complete(), "x", "degradation", seeds=(0, 1, 2), untreated=runs(0.0, 0.0, 0.0), treated=lagging)
    assert (ill.outcome, ill.silent) == ("inconclusive", 0)


def test_nothing_gained_is_no_effect_and_a_loss_is_harm():
    assert verdict(runs(0.5, 0.5, 0.5), runs(0.52, 0.5, 0.49)).outcome == "no effect"
    assert verdict(runs(0.9, 0.8, 0.85), runs(0.1, 0.0, 0.05)).outcome == "harmful"


def test_a_run_that_diverges_counts_as_no_progress_instead_of_ending_the_trial(digits):
    (evidence,) = attempts(RECIPE.replace(learning_rate=1e9, epochs=1).complete(), [0], digits)
    assert evidence.progress == 0.0


def test_pairs_share_everything_but_the_prescription(digits):
    """The same seed twice gives the same bits; another seed does not."""
    recipe = RECIPE.complete()
    first, again, other = attempts(recipe, [5, 5, 6], digits)
    losses = [[row["train/loss"] for row in evidence.history] for evidence in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]


def test_one_pair_proves_nothing(digits):
    with pytest.raises(InvalidOption, match="at least two"):
        trial(RECIPE, "batch-normalization", "vanishing", seeds=(0,), data=digits)


def test_a_prescription_that_changes_nothing_is_refused_before_anything_is_trained_with_it(digits):
    with pytest.raises(NoEffect, match="standardised already"):
        trial(RECIPE, "standardise-data", "vanishing", data=digits, untreated=runs(0.0, 0.0, 0.0))


def test_the_verdict_is_plain_json_and_a_sentence():
    result = verdict(runs(0.0, 0.0), runs(0.9, 0.9))
    assert result.to_dict() == {
        "prescription": "x",
        "outcome": "cured",
        "before": [0.0, 0.0],
        "after": pytest.approx([0.9, 0.9]),
        "seeds": [0, 1],
        "difference": pytest.approx(0.9),
        "interval": pytest.approx([0.9, 0.9]),
        "silent": 2,
        "epochs": 10,
    } | {"epochs": result.epochs}
    assert "0.0% -> 90.0%" in str(result)


def test_progress_that_cannot_be_measured_is_refused():
    with pytest.raises(InvalidOption, match="no known chance level"):
        verdict([Evidence(), Evidence()], [Evidence(), Evidence()])
