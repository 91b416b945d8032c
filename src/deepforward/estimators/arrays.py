"""Arrays of scikit-learn as tensors, and its random states as seeds."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, validate_data
from torch import Tensor

from deepforward.errors import InvalidOption, ShapeError


def tensor_of(estimator: Any, X: Any, *, reset: bool) -> Tensor:
    """`X` checked as scikit-learn does, as a float32 tensor (examples, features).

    Memory is shared with the array where that is possible and the array may be written to; torch knows no other.

    Args:
        estimator: Remembers number and names of the features, or is asked for them.
        X: (examples, features), dense.
        reset: Whether this is the data that the estimator is fitted to.

    Raises:
        ValueError: NaN, infinite or too large for float32, no examples, or other features than those of the fit.
    """
    array = validate_data(estimator, X, dtype=np.float32, reset=reset)
    return torch.from_numpy(np.require(array, np.float32, ["C", "W"]))


def images_of(X: Any) -> Tensor:
    """Images as a float32 tensor (examples, channels, height, width); one channel may be left out.

    Raises:
        ShapeError: Another number of axes.
        ValueError: NaN, infinite, or no examples.
    """
    array = check_array(X, dtype=np.float32, allow_nd=True, input_name="X")
    if array.ndim not in (3, 4):
        got = f"an array of {array.ndim} axes"
        raise ShapeError(f"X: got {got}; expected images (examples, height, width) or (examples, channels, height, width)")
    images = torch.from_numpy(np.require(array, np.float32, ["C", "W"]))
    return images if images.ndim == 4 else images[:, None]


def hidden_of(X: Any, columns: int) -> Tensor:
    """Values of hidden units as a float32 tensor (examples, columns).

    Raises:
        ShapeError: Another number of columns.
        ValueError: NaN, infinite, or no examples.
    """
    array = check_array(X, dtype=np.float32)
    if array.shape[1] != columns:
        raise ShapeError(f"X: got {array.shape[1]} columns; expected {columns}, as transform gives")
    return torch.from_numpy(np.require(array, np.float32, ["C", "W"]))


def seed_of(random_state: Any) -> int:
    """A seed drawn from what scikit-learn takes for a random state: None, a whole number or a `RandomState`."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def python_number(value: Any) -> Any:
    """A number of numpy, as parameter grids hold them, as one of Python; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def count_of(name: str, value: Any) -> int:
    """How many, as a number of Python.

    Raises:
        InvalidOption: No whole number of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InvalidOption(f"sample got {name}={value!r}; expected a whole number of at least 1")
    return int(value)
