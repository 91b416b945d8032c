"""Targets as they stand in a file, turned into class indices or values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deepforward.data.checks import check_finite
from deepforward.errors import InvalidData

Task = Literal["auto", "classification", "regression"]

#: More distinct whole numbers than this in floating point are taken for measurements, not for classes.
_MOST_CLASSES = 20


def is_classification(targets: np.ndarray, task: Task) -> bool:
    """Whether targets are classes: text, booleans and integers are, floating point only if whole with at most 20 values."""
    if task != "auto":
        return task == "classification"
    if targets.dtype.kind != "f":
        return True
    return bool((targets == np.round(targets)).all()) and len(np.unique(targets)) <= _MOST_CLASSES


#: From a place, for messages, and the targets that stand there to int64 indices or float32 values.
Encode = Callable[[str, np.ndarray], Tensor]


def encoder(place: str, targets: np.ndarray, task: Task) -> tuple[Encode, tuple[str, ...]]:
    """A function from targets to int64 indices of the distinct values in `targets`, and their names; or to float32 values.

    Raises:
        InvalidData: From the function: text for a regression, or a value that `targets` lacks.
    """
    if not is_classification(targets, task):
        return _values, ()
    if targets.dtype.kind == "f":
        check_finite(place, torch.from_numpy(targets))
    known = np.unique(targets)

    def indices(place: str, values: np.ndarray) -> Tensor:
        if (values.dtype.kind in "US") != (known.dtype.kind in "US"):
            raise InvalidData(
                f"{place}: got {known.dtype} for training and {values.dtype} for test, expected one kind of label"
            )
        found = np.searchsorted(known, values).clip(max=len(known) - 1)
        wrong = np.flatnonzero(known[found] != values)
        if len(wrong):
            expected = ", ".join(map(_name, known[:10])) + (", ..." if len(known) > 10 else "")
            got = f"label {_name(values[wrong[0]])} at example {wrong[0]}"
            raise InvalidData(f"{place}: got {got}, which no training example has, expected one of {expected}")
        return torch.from_numpy(found.astype(np.int64))

    return indices, tuple(map(_name, known))


def _values(place: str, targets: np.ndarray) -> Tensor:
    if targets.dtype.kind not in "biuf":
        raise InvalidData(f"{place}: got text as target of a regression, expected numbers; use task=classification")
    with np.errstate(over="ignore"):  # becomes infinite, which no Dataset takes
        return torch.from_numpy(targets.astype(np.float32))


def _name(value: np.generic) -> str:
    if isinstance(value, np.floating) and float(value).is_integer():
        return str(int(value))
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
