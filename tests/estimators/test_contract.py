"""The contract of scikit-learn, by its own checks, and what it takes to be used with its tools."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import pickle
import re
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from deepforward.engine import Recipe
from deepforward.errors import InvalidData
from deepforward.estimators import DBM, DBN, RBM, Hopfield

SHORT = {"n_iter": 1, "batch_size": 500, "n_chains": 4, "random_state": 0}
TRAINED = (
    RBM(n_components=5, **SHORT),
    DBN((5, 4), n_fine_tuning_iter=1, **SHORT),
    DBM((5, 4), n_pretraining_iter=1, **SHORT),
)
ESTIMATORS = (*TRAINED, Hopfield(random_state=0))


def named(estimators: tuple[Any, ...]) -> dict[str, Any]:
    return {"argvalues": estimators, "ids": lambda estimator: type(estimator).__name__}


def bits(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (rows, columns)).astype(np.float32)


def pickled(estimator: Any) -> Any:
    return pickle.loads(pickle.dumps(estimator))  # noqa: S301  (what joblib does; our own code never unpickles)


@parametrize_with_checks(list(ESTIMATORS))
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", [type(estimator) for estimator in ESTIMATORS])
def test_every_parameter_is_documented_and_stored_as_it_is(kind: Any) -> None:
    names = set(inspect.signature(kind).parameters)
    arguments = kind.__doc__.partition("Args:")[2].partition("Attributes:")[0]
    assert set(re.findall(r"^ {8}(\w+): ", arguments, re.MULTILINE)) == names
    given = {name: object() for name in names}  # fit is what looks at them
    assert kind(**given).get_params() == given
    assert repr(kind()) == f"{kind.__name__}()"


@pytest.mark.parametrize("estimator", **named(ESTIMATORS))
@pytest.mark.parametrize("copier", [copy.deepcopy, pickled], ids=["deepcopy", "pickle"])
def test_a_copied_estimator_is_the_same(estimator: Any, copier: Any) -> None:
    X = bits(40, 6)
    fitted = clone(estimator).fit(X)
    copied = copier(fitted)
    assert np.array_equal(copied.transform(X), fitted.transform(X))
    assert np.array_equal(copied.score_samples(X), fitted.score_samples(X))
    assert np.array_equal(copied.sample(3), fitted.sample(3))
    # Training goes on where it was.
    assert np.array_equal(copied.partial_fit(X).transform(X), fitted.partial_fit(X).transform(X))


@pytest.mark.parametrize("estimator", **named(TRAINED))
def test_a_fitted_estimator_does_not_carry_its_data(estimator: Any) -> None:
    few, many = (len(pickle.dumps(clone(estimator).fit(bits(rows, 6)))) for rows in (1000, 20_000))
    assert many < few + 10_000


@pytest.mark.parametrize("estimator", **named(TRAINED))
def test_fit_keeps_a_recipe_of_plain_values_and_a_history(estimator: Any) -> None:
    fitted = clone(estimator).set_params(validation_fraction=0.25).fit(bits(40, 6))
    assert Recipe.from_json(fitted.recipe_.to_json()) == fitted.recipe_
    assert fitted.recipe_.batch_size == 500
    assert [row["epoch"] for row in fitted.history_] == [1]
    assert fitted.history_[0]["validation/reconstruction"] > 0


@pytest.mark.parametrize("estimator", **named(ESTIMATORS))
def test_features_have_names(estimator: Any) -> None:
    X = bits(40, 6)
    fitted = clone(estimator).fit(X)
    names = fitted.get_feature_names_out()
    assert len(names) == fitted.transform(X).shape[1]
    assert names[1] == f"{type(estimator).__name__.lower()}1"


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="needs pandas")
@pytest.mark.parametrize("estimator", **named(ESTIMATORS))
def test_output_is_a_data_frame_if_asked(estimator: Any) -> None:
    frame = clone(estimator).set_output(transform="pandas").fit_transform(bits(40, 6))
    assert frame.columns[0] == f"{type(estimator).__name__.lower()}0"


def test_a_grid_of_numpy_numbers_is_searched() -> None:
    grid = {"n_components": np.arange(2, 4), "learning_rate": np.array([0.01, 0.1]), "weight_decay": [np.float64(0.0)]}
    search = GridSearchCV(RBM(**SHORT), grid, cv=2, error_score="raise").fit(bits(40, 6))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.recipe_.model_options["hidden"] in {2, 3}


@pytest.mark.parametrize("estimator", **named(TRAINED))
def test_data_that_units_cannot_take_are_refused_without_scaling(estimator: Any) -> None:
    X = bits(40, 6)
    with pytest.raises(InvalidData, match="got values from -1 to 1; expected numbers from 0 to 1"):
        clone(estimator).set_params(scaling="none").fit(2 * X - 1)
    with pytest.raises(ValueError, match=r"X: got 2 in example 0, unit 0; expected numbers from 0 to 1"):
        clone(estimator).fit(X).transform(np.full((1, 6), 2.0))


@pytest.mark.parametrize("estimator", **named(TRAINED))
def test_reals_are_scaled_by_the_training_data_and_cut_off(estimator: Any) -> None:
    X = np.random.default_rng(0).normal(size=(40, 6))
    fitted = clone(estimator).fit(X)
    assert fitted.recipe_.scaling == "min-max"
    beyond = np.where(X > 0, X.max(0) + 100, X.min(0) - 100)
    assert np.array_equal(fitted.transform(beyond), fitted.transform(np.where(X > 0, X.max(0), X.min(0))))
    assert not np.array_equal(fitted.transform(beyond), fitted.transform(X))


@pytest.mark.parametrize("estimator", **named(TRAINED))
def test_draws_are_of_the_training_data_and_repeatable(estimator: Any) -> None:
    X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    fitted = clone(estimator).fit(X)
    drawn = fitted.sample(50, n_sweeps=3, random_state=1)
    assert drawn.shape == (50, 6)
    assert drawn.dtype == np.float32
    ends = np.stack((X.min(0), X.max(0)))
    assert np.isclose(drawn, ends[:, None], atol=1e-5).any(0).all()  # float32 of numbers near 1
    assert np.array_equal(drawn, fitted.sample(50, n_sweeps=3, random_state=1))
    assert not np.array_equal(drawn, fitted.sample(50, n_sweeps=3, random_state=2))
    means = fitted.sample(50, n_sweeps=3, means=True)
    assert ((means > ends[0]) & (means < ends[1])).all()


@pytest.mark.parametrize("estimator", **named(TRAINED))
def test_the_same_seed_gives_the_same_estimator(estimator: Any) -> None:
    X = bits(40, 6)
    first, again, other = (clone(estimator).set_params(random_state=seed).fit(X).transform(X) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
