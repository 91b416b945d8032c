"""The shallower twin of a recipe, against which degradation is measured."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from deepforward import catalogue
from deepforward.engine import Recipe
from deepforward.engine.building import load_factory

#: Least number of hidden layers for which a shallower twin tells anything, and how many times shallower it is.
_DEEP, _RATIO = 8, 4


def shallower(recipe: Recipe) -> Recipe | None:
    """The same recipe at about a quarter of the depth, or None if it is not deep or its model has no shallower form.

    A model with an option `depth` gets a quarter of it; one of a numbered family (`plain56`) becomes the smallest of them.
    """
    if ":" in recipe.model:
        return _less_deep(recipe, load_factory(recipe.model))
    stem = recipe.model.rstrip("0123456789")
    if stem == recipe.model:
        return _less_deep(recipe, catalogue.load("models", recipe.model))
    family = [card.name for card in catalogue.cards("models") if card.name.rstrip("0123456789") == stem]
    depth = {name: int(name.removeprefix(stem)) for name in family}
    smallest = min(family, key=depth.__getitem__)
    return recipe.replace(model=smallest) if 2 * depth[smallest] <= depth[recipe.model] else None


def _less_deep(recipe: Recipe, factory: Callable[..., Any]) -> Recipe | None:
    option = inspect.signature(factory).parameters.get("depth")
    depth = recipe.model_options.get("depth", option.default) if option is not None else 0
    if not isinstance(depth, int) or depth < _DEEP:
        return None
    return recipe.replace(model_options={**recipe.model_options, "depth": depth // _RATIO})
