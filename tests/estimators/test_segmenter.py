"""Segmentation with the surface of scikit-learn: its contract as far as it goes, and masks of every kind."""

from __future__ import annotations

import inspect
import pickle
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import jaccard_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import (
    check_get_params_invariance,
    check_no_attributes_set_in_init,
    check_parameters_default_constructible,
    check_set_params,
)

from deepforward.data import load
from deepforward.engine import Recipe
from deepforward.errors import InvalidData, InvalidOption, ShapeError
from deepforward.estimators import Segmenter

SMALL = Segmenter(model_options={"width": 8, "rates": [1, 2], "stride": 1}, epochs=5, batch_size=8, random_state=0)


@pytest.fixture(scope="module")
def discs():
    data = load("shapes?n=100&classes=2&size=16&noise=0.05&test=0.2")
    return [part.numpy() for split in (data.train, data.test) for part in (split.inputs[:, 0], split.targets)]


@pytest.fixture(scope="module")
def fitted(discs):
    X, y, _, _ = discs
    return clone(SMALL).fit(X, y)


@pytest.mark.parametrize(
    "check",
    [check_get_params_invariance, check_set_params, check_no_attributes_set_in_init, check_parameters_default_constructible],
)
def test_what_scikit_learn_checks_of_parameters(check):
    check("Segmenter", clone(SMALL))


def test_every_parameter_is_documented_and_stored_as_it_is():
    names = set(inspect.signature(Segmenter).parameters)
    arguments = Segmenter.__doc__.partition("Args:")[2].partition("Attributes:")[0]
    assert set(re.findall(r"^ {8}(\w+): ", arguments, re.MULTILINE)) == names
    given = {name: object() for name in names}
    assert Segmenter(**given).get_params() == given


def test_before_the_fit_there_is_nothing_to_ask(discs):
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(Segmenter(), method)(discs[0])


def test_it_learns_discs_and_scores_by_mean_intersection_over_union(fitted, discs):
    _, _, X, y = discs
    given = fitted.predict(X)
    assert given.shape == y.shape
    each = [jaccard_score(y.ravel() == label, given.ravel() == label) for label in (0, 1)]
    assert fitted.score(X, y) == pytest.approx(np.mean(each), abs=1e-12)
    assert fitted.score(X, y) > 0.8  # guessing the ground everywhere gives 0.4
    shares = fitted.predict_proba(X)
    assert shares.shape == (len(X), 2, 16, 16)
    assert np.allclose(shares.sum(1), 1)
    assert (fitted.classes_[shares.argmax(1)] == given).all()
    assert Recipe.from_json(fitted.recipe_.to_json()) == fitted.recipe_
    assert fitted.recipe_.objective == "pixel-cross-entropy"
    assert not hasattr(fitted, "n_features_in_")


def test_copies_channels_and_flattened_images_are_the_same(fitted, discs):
    X, y, others, _ = discs
    copied = pickle.loads(pickle.dumps(fitted))  # noqa: S301  (what joblib does; our own code never unpickles)
    assert np.array_equal(copied.predict_proba(others), fitted.predict_proba(others))
    assert np.array_equal(fitted.predict(others[:, None]), fitted.predict(others))
    flat = clone(SMALL).set_params(input_shape=(1, 16, 16)).fit(X.reshape(len(X), -1), y)
    assert flat.n_features_in_ == 256
    assert np.array_equal(flat.predict_proba(others.reshape(len(others), -1)), fitted.predict_proba(others))


def test_labels_of_any_numbers_and_pixels_without_one(fitted, discs):
    X, y, others, _ = discs
    masks = np.where(y == 1, 700, -3)
    masks[:, 0] = 255
    quick = clone(SMALL).set_params(epochs=1).fit(X, masks)
    assert quick.classes_.tolist() == [-3, 700]
    assert set(np.unique(quick.predict(others))) <= {-3, 700}
    rest = y.copy()
    rest[:, 0] = 255
    assert np.array_equal(quick.predict_proba(others), clone(SMALL).set_params(epochs=1).fit(X, rest).predict_proba(others))
    scored = masks[:5].copy()
    scored[0] = 255
    given = np.where(quick.predict(X[1:5]) == 700, 700, -3)
    assert quick.score(X[:5], scored) == pytest.approx(
        np.mean([jaccard_score((masks[1:5, 1:] == c).ravel(), (given[:, 1:] == c).ravel(), zero_division=0) for c in (-3, 700)])
    )
    with pytest.raises(InvalidData, match="y: got the label 5, expected those of the fit, -3, 700"):
        quick.score(X[:1], np.full((1, 16, 16), 5))


def test_black_and_white_are_two_classes(discs):
    X, y, others, _ = discs
    assert clone(SMALL).set_params(epochs=1).fit(X[:20], 255 * y[:20]).classes_.tolist() == [0, 255]
    assert clone(SMALL).set_params(epochs=1).fit(X[:20], y[:20].astype(bool)).predict(others).dtype == np.int64


def test_a_search_over_its_parameters(discs):
    X, y, _, _ = discs
    search = GridSearchCV(clone(SMALL).set_params(epochs=1), {"learning_rate": np.array([1e-6, 0.1])}, cv=2).fit(X[:40], y[:40])
    assert search.best_params_ == {"learning_rate": 0.1}


def test_what_does_not_fit_is_refused_in_a_line(fitted, discs):
    X, y, _, _ = discs
    with pytest.raises(ShapeError, match=r"y: got masks of shape \(80, 16\); expected \(80, 16, 16\)"):
        clone(SMALL).fit(X, y[:, 0])
    with pytest.raises(InvalidData, match="y: got masks of float64, expected whole numbers"):
        clone(SMALL).fit(X, y / 2)
    with pytest.raises(InvalidData, match="y: got 1 classes, expected 2 to 255"):
        clone(SMALL).fit(X, np.zeros_like(y))
    with pytest.raises(InvalidData, match="fit requires y to be passed"):
        clone(SMALL).fit(X, None)
    with pytest.raises(ShapeError, match=r"X: got examples of shape \(1, 8, 8\); expected \(1, 16, 16\) as in fit"):
        fitted.predict(X[:, :8, :8])
    with pytest.raises(ShapeError, match="smaller than the receptive field"):
        Segmenter().fit(X, y)
    with pytest.raises(InvalidOption, match="stride"):
        clone(SMALL).set_params(model_options={"stride": 5}).fit(X, y)
