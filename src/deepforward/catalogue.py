"""Name -> card -> object: the one naming mechanism, importing an object's module only when the object is asked for.

A card is data. The cards of a package stand in `cards.toml` beside its code, so that listing, help, documentation and contract
tests read names, sources and shapes without importing torch. Sections are
`[kind.name]`, `kind` being the word on the command line:

    [models.perceptron]
    target = "deepforward.models.perceptrons:Perceptron"
    summary = "fully connected layers of any depth and width"
    source = "Rumelhart, Hinton, Williams 1986"
"""

from __future__ import annotations

import functools
import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from deepforward.errors import UnknownName

#: kind of card -> package that holds its cards.toml; the order is that of `deepforward list`.
KINDS: Mapping[str, str] = {
    "models": "models",
    "sources": "data",
    "objectives": "objectives",
    "optimizers": "engine",
    "instruments": "instruments",
    "rules": "clinic",
    "prescriptions": "clinic",
    "claims": "lecture",
}


@dataclass(frozen=True)
class Card:
    """What is known of a named thing without importing it.

    Attributes:
        kind: One of `KINDS`.
        name: Kebab-case name, unique within its kind.
        target: `package.module:attribute` that `load` imports.
        summary: One line, no full stop.
        source: Citation (author, year, title or venue) of what is built.
        details: All other keys of the card: `takes`, `gives`, `parameters`, `objective`, `recipe` (models), `shape`, `classes`,
            `splits`, `licence` (sources), `items`, `references`, `errata` (claims), and so on.
    """

    kind: str
    name: str
    target: str
    summary: str
    source: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import the target's module and return the target."""
        return load_target(self.target)


def load_target(target: str) -> Any:
    """What `package.module:attribute` names; its module is imported."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


@functools.cache
def _cards(kind: str) -> Mapping[str, Card]:
    if kind not in KINDS:
        raise UnknownName("kind of card", kind, KINDS)
    text = resources.files("deepforward").joinpath(KINDS[kind], "cards.toml").read_text(encoding="utf-8")
    cards = {}
    for name, entry in tomllib.loads(text).get(kind, {}).items():
        known = {key: entry.pop(key) for key in ("target", "summary", "source")}
        cards[name] = Card(kind=kind, name=name, details=entry, **known)
    return cards


def cards(kind: str) -> list[Card]:
    """All cards of a kind, in the order of their file.

    Raises:
        UnknownName: `kind` is not one of `KINDS`.
    """
    return list(_cards(kind).values())


def card(kind: str, name: str) -> Card:
    """The card called `name`.

    Raises:
        UnknownName: No such kind or name; the message offers neighbours.
    """
    found = _cards(kind).get(name)
    if found is None:
        raise UnknownName(kind.removesuffix("s"), name, _cards(kind))
    return found


def load(kind: str, name: str) -> Any:
    """The object that the card `name` stands for: `card(kind, name).load()`."""
    return card(kind, name).load()
