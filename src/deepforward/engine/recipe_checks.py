"""What the fields of a recipe may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepforward.engine.schedule import OPTIONS
from deepforward.errors import InvalidOption

_SWITCH = ("auto", "on", "off")
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("model", "data", "scaling", "objective", "optimizer", "schedule", "precision", "device"), str),
    **dict.fromkeys(("model_options", "objective_options", "optimizer_options", "schedule_options"), Mapping),
    **dict.fromkeys(("alterations", "augmentation", "pretraining"), tuple),
}
_WORDS: Mapping[type, str] = {str: "a text", Mapping: "names with values", tuple: "a tuple of texts, for example ('residual',)"}
_RANGES: Mapping[str, tuple[float, float, type]] = {
    "epochs": (1, float("inf"), int),
    "batch_size": (1, float("inf"), int),
    "validation": (0.0, 0.999, float),
    "averaging": (0.0, 0.999999, float),
    "weight_decay": (0.0, float("inf"), float),
    "clip": (0.0, float("inf"), float),
    "patience": (1, float("inf"), int),
    "threads": (0, 4096, int),
    "probe_budget": (0.0, 1.0, float),
    "seed": (0, 2**63 - 1, int),
    "split_seed": (0, 2**63 - 1, int),
}
_CHOICES = {
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "schedule": tuple(OPTIONS),
    "channels_last": _SWITCH,
    "compile": _SWITCH,
    "fuse": _SWITCH,
}


def check_fields(recipe: Mapping[str, Any]) -> None:
    """Refuse what a recipe cannot be, field by field; None stands for a field left open.

    Args:
        recipe: All fields of a recipe by name.

    Raises:
        InvalidOption: A value is of the wrong kind or out of range.
    """
    for name, kind in _KINDS.items():
        value = recipe[name]
        if not isinstance(value, kind) and value is not None:
            raise InvalidOption(f"{name} is {value!r}; expected {_WORDS[kind]}")
    for name, example in (("alterations", "residual"), ("augmentation", "flip")):
        if not all(isinstance(text, str) for text in recipe[name] or ()):
            raise InvalidOption(f"{name} is {recipe[name]!r}; expected a tuple of texts, for example ('{example}',)")
    if not all(isinstance(changes, Mapping) for changes in recipe["pretraining"] or ()):
        raise InvalidOption(
            f"pretraining is {recipe['pretraining']!r}; expected a tuple of mappings, such as ({{'epochs': 5}},)"
        )
    for name, (low, high, kind) in _RANGES.items():
        _check_range(name, recipe[name], low, high, kind)
    if recipe["learning_rate"] != "find":
        if isinstance(recipe["learning_rate"], str):
            raise InvalidOption(f"learning_rate is {recipe['learning_rate']!r}; expected a number at least 0, or 'find'")
        _check_range("learning_rate", recipe["learning_rate"], 0.0, float("inf"), float)
    for name, choices in _CHOICES.items():
        value = recipe[name]
        if value is not None and value not in choices:
            raise InvalidOption(f"{name} is '{value}'; expected one of {', '.join(choices)}")


def _check_range(name: str, value: object, low: float, high: float, kind: type) -> None:
    if value is None:
        return
    wanted = (int, float) if kind is float else int
    if isinstance(value, bool) or not isinstance(value, wanted) or not low <= value <= high:
        bounds = f"at least {low:g}" if high == float("inf") else f"from {low} to {high}"
        raise InvalidOption(f"{name} is {value!r}; expected {'a number' if kind is float else 'a whole number'} {bounds}")
