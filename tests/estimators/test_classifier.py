"""Any network as a classifier: scikit-learn's own checks, and images of every layout."""

from __future__ import annotations

import inspect
import pickle
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from deepforward.engine import Recipe
from deepforward.errors import Diverged, InvalidData, InvalidOption, ShapeError, UnknownName
from deepforward.estimators import NetworkClassifier

SMALL = NetworkClassifier(model_options={"depth": 2, "width": 16}, epochs=15, batch_size=16, random_state=0)


@parametrize_with_checks([SMALL])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_every_parameter_is_documented_and_stored_as_it_is():
    names = set(inspect.signature(NetworkClassifier).parameters)
    arguments = NetworkClassifier.__doc__.partition("Args:")[2].partition("Attributes:")[0]
    assert set(re.findall(r"^ {8}(\w+): ", arguments, re.MULTILINE)) == names
    given = {name: object() for name in names}
    assert NetworkClassifier(**given).get_params() == given


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    mixed = np.random.default_rng(0).permutation(len(labels))[:600]  # they come sorted by writer
    return images.reshape(-1, 8, 8)[mixed], np.array([f"digit {label}" for label in labels])[mixed]


@pytest.fixture(scope="module")
def lenet(digits):
    X, y = digits
    changes = {"augmentation": ("cutout?size=1",), "validation_fraction": 0.1, "random_state": 1}
    return NetworkClassifier(model="lenet5", epochs=8, batch_size=32, learning_rate=0.02, **changes).fit(X[:500], y[:500])


def test_a_convolutional_network_reads_digits(lenet, digits):
    X, y = digits
    assert lenet.score(X[500:], y[500:]) > 0.9
    assert lenet.recipe_.augmentation == ("cutout?size=1",)
    assert Recipe.from_json(lenet.recipe_.to_json()) == lenet.recipe_
    assert [row["epoch"] for row in lenet.history_] == list(range(1, 9))
    shares = lenet.predict_proba(X[500:])
    assert shares.shape == (100, 10)
    assert np.allclose(shares.sum(1), 1)
    assert (lenet.classes_[shares.argmax(1)] == lenet.predict(X[500:])).all()


def test_flattened_images_are_the_same_images(lenet, digits):
    X, y = digits
    flat = clone(lenet).set_params(input_shape=(1, 8, 8)).fit(X[:500].reshape(500, -1), y[:500])
    assert np.array_equal(flat.predict_proba(X[500:].reshape(100, -1)), lenet.predict_proba(X[500:]))
    assert np.array_equal(lenet.predict_proba(X[500:, None]), lenet.predict_proba(X[500:]))


def test_a_copy_predicts_the_same_and_holds_no_data(lenet, digits):
    X, _ = digits
    stored = pickle.dumps(lenet)
    assert np.array_equal(pickle.loads(stored).predict(X), lenet.predict(X))  # noqa: S301  (what joblib does)
    parameters = sum(p.numel() for p in lenet.model_.parameters())
    assert len(stored) < 4 * parameters + 50_000


def test_it_is_searched_in_a_pipeline(digits):
    X, y = digits
    pipeline = make_pipeline(FunctionTransformer(lambda images: images.reshape(len(images), -1)), clone(SMALL))
    grid = {"networkclassifier__learning_rate": np.array([0.0001, 0.05])}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X[:200], y[:200])
    assert search.best_params_["networkclassifier__learning_rate"] == 0.05


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"model": "lenet6"}, UnknownName, "lenet5"),
        ({"epochs": 0}, InvalidOption, "epochs is 0"),
        ({"input_shape": (1, 7, 8), "flat": True}, ShapeError, r"got 64 columns and input_shape=\(1, 7, 8\); expected 56"),
        ({"augmentation": ("flap",)}, UnknownName, "flip"),
        ({"labels": 3}, InvalidData, "got 600 examples in X and 3 labels in y"),
        ({"learning_rate": 1e30}, Diverged, "lower the learning rate"),
    ],
)
def test_bad_input_gets_one_line(digits, changes, error, says):
    X, y = digits
    changes = dict(changes)
    X, y = X.reshape(600, -1) if changes.pop("flat", False) else X, y[: changes.pop("labels", 600)]
    with pytest.raises(error, match=says) as raised:
        NetworkClassifier(**{"model": "lenet5", "epochs": 1, **changes}).fit(X, y)
    assert "\n" not in str(raised.value)


def test_other_images_than_those_of_the_fit_are_refused(lenet, digits):
    with pytest.raises(ShapeError, match=r"got examples of shape \(1, 8, 7\); expected \(1, 8, 8\)"):
        lenet.predict(digits[0][:, :, :7])
    with pytest.raises(ShapeError, match="expected images"):
        lenet.predict(digits[0][:, None, None])
    with pytest.raises(NotFittedError):
        NetworkClassifier().predict(digits[0])
