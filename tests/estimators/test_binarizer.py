"""The Binarizer: masks of pages of any size, and scikit-learn's surface."""

from __future__ import annotations

import inspect
import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from deepforward.data import load
from deepforward.engine import Recipe
from deepforward.errors import InvalidData
from deepforward.estimators import Binarizer
from deepforward.metrics.binarization import f_measure
from deepforward.shallow.binarization import otsu

SHORT = Binarizer(n_iter=8, learning_rate=0.02, channels=(8, 8), depth=1, random_state=0)


@pytest.fixture(scope="module")
def pages() -> tuple[np.ndarray, ...]:
    data = load("pages?n=14&size=64&glyphs=digits&test=0.3")
    return tuple(array.numpy() for split in (data.train, data.test) for array in (split.inputs[:, 0], split.targets))


@pytest.fixture(scope="module")
def fitted(pages) -> Binarizer:
    return clone(SHORT).fit(pages[0], pages[1])


def test_it_learns_and_its_score_is_the_mean_f_measure(fitted, pages) -> None:
    _, _, X, y = pages
    found = fitted.predict(X)
    assert found.dtype == bool
    assert found.shape == X.shape
    pairs = zip(torch.from_numpy(found), torch.from_numpy(y == 1), strict=True)
    assert fitted.score(X, y) == pytest.approx(np.mean([f_measure(*pair) for pair in pairs]))
    thresholded = [
        f_measure(otsu(torch.from_numpy(page)), torch.from_numpy(mask == 1)) for page, mask in zip(X, y, strict=True)
    ]
    assert fitted.score(X, y) > np.mean(thresholded)
    assert np.array_equal(fitted.transform(X), found)


def test_units_do_not_matter_where_they_are_those_of_the_fit(fitted, pages) -> None:
    X, y, X_test, _ = pages
    floats = clone(SHORT).fit(X / 255.0, y)
    assert (floats.predict(X_test / 255.0) == fitted.predict(X_test)).mean() > 0.98  # bf16 may round otherwise


def test_pages_of_another_size(fitted, pages) -> None:
    wide = np.concatenate((pages[2], pages[2]), axis=2)[:, :50]
    assert fitted.predict(wide).shape == wide.shape


def test_pixels_that_are_not_known_do_not_count(fitted, pages) -> None:
    _, _, X, y = pages
    masks = y.copy()
    masks[:, 32:] = 255
    found = fitted.predict(X)
    found[:, 32:] = False
    expected = [f_measure(torch.from_numpy(a), torch.from_numpy(b == 1)) for a, b in zip(found, masks, strict=True)]
    assert fitted.score(X, masks) == pytest.approx(np.mean(expected))


def test_the_same_seed_gives_the_same_masks_and_copies_are_the_same_without_the_data(fitted, pages) -> None:
    X, y, X_test, _ = pages
    assert np.array_equal(clone(SHORT).fit(X, y == 1).predict(X_test), fitted.predict(X_test))
    stored = pickle.dumps(fitted)
    assert np.array_equal(pickle.loads(stored).predict(X_test), fitted.predict(X_test))  # noqa: S301 - what joblib does
    parameters = sum(p.numel() for p in fitted.model_.parameters())
    assert len(stored) < 4 * parameters + 100_000
    assert Recipe.from_json(fitted.recipe_.to_json()).epochs == 8
    assert [row["epoch"] for row in fitted.history_] == list(range(1, 9))


def test_every_parameter_is_documented_and_stored_as_it_is() -> None:
    names = set(inspect.signature(Binarizer).parameters)
    arguments = Binarizer.__doc__.partition("Args:")[2].partition("Attributes:")[0]
    assert set(re.findall(r"^ {8}(\w+): ", arguments, re.MULTILINE)) == names
    given = {name: object() for name in names}
    assert Binarizer(**given).get_params() == given
    assert repr(Binarizer()) == "Binarizer()"


def test_a_grid_is_searched(pages) -> None:
    search = GridSearchCV(clone(SHORT).set_params(n_iter=1), {"depth": np.arange(2)}, cv=2, error_score="raise")
    assert search.fit(pages[0], pages[1]).best_params_["depth"] in {0, 1}


@pytest.mark.parametrize(
    ("X", "y", "says"),
    [
        (np.zeros((2, 9)), np.zeros((2, 9)), r"X: got an array of shape \(2, 9\); expected \(pages, height, width\)"),
        (np.zeros((2, 9, 9)), np.full((2, 9, 9), 0.5), "y: got values such as 0.5; expected 0 paper, 1 ink, 255 unknown"),
        (np.zeros((2, 9, 9)), np.full((2, 9, 9), 3), "got index 3"),
        (np.zeros((2, 9, 9)), np.zeros((2, 9, 9)), "got one class"),
        (np.zeros((2, 9, 9)), np.zeros((2, 9, 8)), "expected one uint8 class index for each pixel"),
    ],
    ids=["rows", "half", "three", "blank", "size"],
)
def test_what_is_no_page_is_a_value_error_of_one_line(X, y, says) -> None:
    with pytest.raises(InvalidData, match=says) as caught:
        Binarizer().fit(X, y)
    assert "\n" not in str(caught.value)


def test_other_errors_are_those_of_scikit_learn() -> None:
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        Binarizer().fit(np.zeros((2, 9, 9)), np.zeros((3, 9, 9)))
    with pytest.raises(ValueError, match="NaN"):
        Binarizer().fit(np.full((2, 9, 9), np.nan), np.zeros((2, 9, 9)))
    with pytest.raises(NotFittedError):
        Binarizer().predict(np.zeros((2, 9, 9)))
