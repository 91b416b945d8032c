"""The shallower twin of a recipe, against which degradation is measured."""

from __future__ import annotations

import inspect

from deepforward import catalogue
from deepforward.engine import Recipe

#: Least number of hidden layers for which a shallower twin tells anything, and how many times shallower it is.
_DEEP, _RATIO = 8, 4


def shallower(recipe: Recipe) -> Recipe | None:
    """The same recipe at about a quarter of the depth, or None if it is not deep or its model has no shallower form.

    A model with an option `depth` gets a quarter of it; one of a numbered family (`plain56`) becomes the smallest of them.
    """
    if ":" in recipe.model:
        return None
    option = inspect.signature(catalogue.load("models", recipe.model)).parameters.get("depth")
    if option is not None:
        depth = recipe.model_options.get("depth", option.default)
        return recipe.replace(model_options={**recipe.model_options, "depth": depth // _RATIO}) if depth >= _DEEP else None
    stem = recipe.model.rstrip("0123456789")
    family = [card.name for card in catalogue.cards("models") if card.name.rstrip("0123456789") == stem != card.name]
    depths = {name: int(name.removeprefix(stem)) for name in family}
    smaller = [name for name in family if depths[name] * 2 <= depths.get(recipe.model, 0)]
    return recipe.replace(model=min(smaller, key=depths.__getitem__)) if smaller else None
