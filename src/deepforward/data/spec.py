"""Specifications as text: `name[:path][?key=value&...]`, read against the signature of the function that they call.

The path is taken literally and ends at the last `?`; a value may be percent-encoded (`%26` for `&`).
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import unquote

from deepforward.errors import InvalidOption, UnknownName


class Spec(NamedTuple):
    """A specification taken apart; the values of `options` are still text."""

    name: str
    path: str | None
    options: Mapping[str, str]


@dataclass(frozen=True)
class Range:
    """Numbers that an option accepts, written in its type: `Annotated[float, Range(0, 1, exclusive=True)]`."""

    low: float = -math.inf
    high: float = math.inf
    exclusive: bool = False

    def __contains__(self, value: float) -> bool:
        return self.low < value < self.high if self.exclusive else self.low <= value <= self.high

    def __str__(self) -> str:
        bound = "above" if self.exclusive else "of at least"
        if self.high == math.inf:
            return f"{bound} {self.low:.12g}"
        return f"between {self.low:.12g} and {self.high:.12g}" + (", ends excluded" if self.exclusive else "")


#: Share of examples.
Share = Annotated[float, Range(0, 1, exclusive=True)]
#: Number of examples.
Count = Annotated[int, Range(1, 10**8)]
#: Height and width of an image.
Pixels = Annotated[int, Range(1, 1024)]
#: Number from which all random draws of a source follow.
Seed = Annotated[int, Range(0, 2**63 - 1)]


def parse(text: str) -> Spec:
    """Take a specification apart.

    Raises:
        InvalidOption: Something after `?` is not `key=value`, or a key is given twice.
    """
    head, mark, query = text.rpartition("?")
    if not mark:
        head, query = text, ""
    name, colon, path = head.partition(":")
    options: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InvalidOption(f"got '{item}' in '{text}', expected key=value")
        if key in options:
            raise InvalidOption(f"got {key} twice in '{text}', expected it once")
        options[key] = unquote(value)
    return Spec(name.strip(), path if colon else None, options)


def arguments(owner: str, function: Callable[..., Any], options: Mapping[str, str]) -> dict[str, Any]:
    """Turn text options into the keyword-only arguments of `function`, by their annotations.

    Understood are int, float, str, `Literal`, `X | None` and `Annotated[X, Range(...)]`.

    Raises:
        UnknownName: An unknown key; the message offers neighbours.
        InvalidOption: A value of the wrong kind or out of range, or a required key that is missing.
    """
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    accepted = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    for key in options:
        if not accepted:
            raise InvalidOption(f"{owner}: got option '{key}', expected none")
        if key not in accepted:
            raise UnknownName(f"option of {owner}", key, accepted)
    for key, parameter in accepted.items():
        if parameter.default is parameter.empty and key not in options:
            raise InvalidOption(f"{owner}: option '{key}' is missing; write {owner}?{key}=VALUE")
    return {key: _convert(f"{owner}: got {key}={value}", value, accepted[key].annotation) for key, value in options.items()}


def _convert(got: str, text: str, kind: Any) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(choice for choice in typing.get_args(kind) if choice is not types.NoneType)
    limits = Range()
    if typing.get_origin(kind) is Annotated:
        kind, limits = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        if text not in typing.get_args(kind):
            raise InvalidOption(f"{got}, expected one of {', '.join(typing.get_args(kind))}")
        return text
    if kind is str:
        return text
    return _number(got, text, kind, limits)


def _number(got: str, text: str, kind: type[int] | type[float], limits: Range) -> int | float:
    noun = "a whole number" if kind is int else "a number"
    expected = noun if limits == Range() else f"{noun} {limits}"
    try:
        value = kind(text)
    except ValueError:
        raise InvalidOption(f"{got}, expected {expected}") from None
    if not math.isfinite(value) or value not in limits:
        raise InvalidOption(f"{got}, expected {expected}")
    return value
