"""A Recipe -> the command line that asks for it: the inverse of `cli.settings.recipe_from`."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import Any

from deepforward.data.dataset import Task
from deepforward.engine.recipe import Recipe

_FIELDS = {field.name: field for field in dataclasses.fields(Recipe)}
#: What the command names whether it is usual or not.
_ALWAYS = ("data", "epochs", "seed")


def command_of(recipe: Recipe, task: Task = "classification") -> str:
    """The `deepforward train` that trains the same again: only what completing a recipe would fill otherwise.

    Args:
        recipe: A complete recipe.
        task: That of its data.

    Returns:
        One line for a shell; "" where no command says it, as when a card has options of the optimiser and the recipe none.
    """
    opened = _opened(recipe, task)
    if opened.optimizer_options == {}:
        return ""
    words = ["deepforward", "train", recipe.model]
    for name in _ALWAYS:
        words += [f"--{name}", str(getattr(recipe, name))]
    for name, value in vars(opened).items():
        if name in ("model", *_ALWAYS) or value == _default(name):
            continue
        group = name.removesuffix("_options")
        if group == name:
            words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
            continue
        for key, option in value.items():
            # An option of the model needs no prefix, unless the recipe has a field of that name.
            prefix = "" if group == "model" and key not in _FIELDS else f"{group}."
            words += ["--set", f"{prefix}{key}={_spelt(option)}"]
    return shlex.join(words)


def _opened(recipe: Recipe, task: Task) -> Recipe:
    """The recipe with all left open that `Recipe.complete` fills with the very same."""
    opened = recipe
    for key in recipe.objective_options:
        fewer = {name: value for name, value in opened.objective_options.items() if name != key}
        opened = _without(opened, task, objective_options=fewer)
    for name, field in _FIELDS.items():
        if field.default is None and name not in _ALWAYS:
            opened = _without(opened, task, **{name: None})
    return opened


def _without(recipe: Recipe, task: Task, **changes: Any) -> Recipe:
    """The recipe changed, if that makes no difference to the complete one."""
    fewer = recipe.replace(**changes)
    return recipe if fewer.complete(task).differences(recipe.complete(task)) else fewer


def _default(name: str) -> Any:
    field = _FIELDS[name]
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _spelt(option: Any) -> str:
    """Text as it is, unless it would be read as a number or the like; anything else as JSON."""
    if isinstance(option, str):
        try:
            json.loads(option)
        except json.JSONDecodeError:
            return option
    return json.dumps(option)
