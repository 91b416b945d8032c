"""`--set key=value`: from words on the command line to a Recipe."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepforward import catalogue
from deepforward.errors import InvalidModel, InvalidOption, UnknownName

if TYPE_CHECKING:
    from deepforward.engine import Recipe

#: Prefixes of `--set prefix.key=value` that reach an `*_options` field of the recipe.
GROUPS = ("model", "objective", "optimizer", "schedule")

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A field of the recipe, else an option of the model; also optimizer.KEY, objective.KEY, schedule.KEY. Repeatable.",
    ),
]


def recipe_from(model: str, settings: Iterable[str] | None, **flags: Any) -> Recipe:
    """The recipe that a command line asks for; `--set` wins over flags, and a flag that is None leaves the field open.

    Raises:
        InvalidModel: A Python file without a factory.
        InvalidOption: A setting is not `key=value`, or its group does not exist.
        UnknownName: A setting is neither a field of the recipe nor an option of the named model.
    """
    from deepforward.engine import Recipe

    if model.endswith(".py"):
        raise InvalidModel(f"got the file '{model}'; expected {model}:FACTORY, which names what in it builds the network")
    groups = {f"{group}_options" for group in GROUPS}
    known = {field.name: str(field.type) for field in fields(Recipe) if field.name not in {"model", *groups}}
    changes: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    options: dict[str, dict[str, Any]] = {}
    for setting in settings or ():
        key, text = _split(setting)
        group, dot, name = key.rpartition(".")
        if not dot and key in known:
            changes[key] = _value(text, known[key])
        elif (group or "model") in GROUPS:
            options.setdefault(f"{group or 'model'}_options", {})[name] = _value(text)
        else:
            raise InvalidOption(f"got --set {setting}; expected one of the groups {', '.join(GROUPS)} before the dot")
        if key not in known and (group or "model") == "model" and ":" not in model:
            _check_option(model, name, () if dot else known)
    return Recipe(model=model, **options | changes)


def _check_option(model: str, key: str, fields_of_recipe: Iterable[str]) -> None:
    parameters = inspect.signature(catalogue.load("models", model)).parameters
    options = [name for name in parameters if name not in ("input_shape", "num_outputs")]
    if key not in options:
        raise UnknownName("setting", key, [*fields_of_recipe, *options])


def _split(setting: str) -> tuple[str, str]:
    key, equals, text = setting.partition("=")
    if not (equals and key):
        raise InvalidOption(f"got --set {setting}; expected KEY=VALUE, for example --set depth=56")
    return key, text


def _value(text: str, kind: str = "") -> Any:
    """JSON where it is, else text; for a field of the recipe, what its annotation `kind` allows."""
    if kind.startswith("str"):
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    return value if not kind.startswith("tuple") else tuple(value) if isinstance(value, list) else (text,)
