"""Kinds of units by name."""

from __future__ import annotations

from deepforward.errors import InvalidOption, UnknownName
from deepforward.models.energy.grouped_units import SoftmaxUnits
from deepforward.models.energy.rectified_units import RectifiedUnits
from deepforward.models.energy.units import BinaryUnits, GaussianUnits, Units

#: Names of kinds of units as options know them.
VISIBLE = ("binary", "gaussian", "softmax")
HIDDEN = ("binary", "relu")


def visible_units(kind: str, size: int, *, categories: int = 0, learn_precision: bool = False) -> Units:
    """Units for data: `binary`, `gaussian` or `softmax`.

    Raises:
        UnknownName: Another kind.
        InvalidOption: An option that this kind does not take, or softmax without categories.
    """
    if kind not in VISIBLE:
        raise UnknownName("kind of visible units", kind, VISIBLE)
    if categories and kind != "softmax":
        raise InvalidOption(f"got categories={categories} for {kind} units; only softmax units have categories")
    if learn_precision and kind != "gaussian":
        raise InvalidOption(f"got learn_precision for {kind} units; only gaussian units have a precision")
    if kind == "softmax":
        return SoftmaxUnits(size, categories)
    return GaussianUnits(size, learn_precision) if kind == "gaussian" else BinaryUnits(size)


def hidden_units(kind: str, size: int) -> Units:
    """Hidden units: `binary` or `relu`.

    Raises:
        UnknownName: Another kind.
    """
    if kind not in HIDDEN:
        raise UnknownName("kind of hidden units", kind, HIDDEN)
    return BinaryUnits(size) if kind == "binary" else RectifiedUnits(size)
