"""A Claim: what the lecture says, made checkable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from deepforward.report.blocks import Block

#: A table of measurements: column name -> values, all columns of one length. Plain values, so that it is cached as JSON.
Table = Mapping[str, Sequence[Any]]


def from_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table from its rows, which all have the same keys; at least one row."""
    return {column: [row[column] for row in rows] for column in rows[0]}


def to_rows(table: Table) -> list[dict[str, Any]]:
    """The rows of a table, inverse of `from_rows`."""
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


def number(quantity: str, at: object, value: float) -> dict[str, Any]:
    """A row of a table that has one row a number: what it is of, where it was measured, and the number."""
    return {"quantity": quantity, "at": at, "value": value}


def numbers(table: Table, quantity: str) -> dict[Any, float]:
    """`at` -> value of one quantity of a table whose rows are from `number`."""
    return entries(table, quantity)


def entries(table: Table, quantity: str) -> dict[Any, Any]:
    """The same where a value may be of any kind: the points of an orbit, a row of a picture."""
    return {row["at"]: row["value"] for row in to_rows(table) if row["quantity"] == quantity}


@dataclass(frozen=True)
class Check:
    """One number held against its bounds.

    Attributes:
        name: What was measured.
        value: The number.
        low, high: Bounds, inclusive; -inf or inf where one side is open.
        unit: Unit, "" for a pure number.
        basis: Where the bounds come from (a paper's table, an identity, a measurement named by its command).
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    basis: str

    @property
    def holds(self) -> bool:
        """Whether low <= value <= high (False for NaN)."""
        return self.low <= self.value <= self.high


class Claim(ABC):
    """One statement of the lecture as an experiment.

    `measure` is slow and cached; `check` and `draw` are pure functions of its table.
    """

    #: The lecture's statement, corrected where the lecture errs.
    says: ClassVar[str]
    #: The correction, or "" where the lecture is right: the erratum's id and what was changed.
    correction: ClassVar[str] = ""

    @abstractmethod
    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Run the experiment. `budget` is "smoke" (seconds) or "full" (what the published pattern needs)."""

    @abstractmethod
    def check(self, table: Table) -> list[Check]:
        """Hold the table's numbers against their bounds."""

    @abstractmethod
    def draw(self, table: Table) -> list[Block]:
        """Figures and tables as blocks of a report page."""

    @abstractmethod
    def refutation(self) -> Table:
        """A table on which `check` must fail: what would be measured if the claim were false."""
