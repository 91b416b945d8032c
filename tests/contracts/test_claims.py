"""Every claim is stated, cited, holds on a small budget, can be refuted, and is drawn."""

from __future__ import annotations

import json
import re

import pytest
import torch

from deepforward import catalogue
from deepforward.lecture import Claim, Table, run_claims
from deepforward.report import Chart, Page, render
from deepforward.report import Table as Cells

CARDS = catalogue.cards("claims")
claims = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def measure(card: catalogue.Card, seed: int = 0) -> Table:
    return card.load()().measure("smoke", torch.Generator().manual_seed(seed), lambda _: None)


@pytest.fixture(scope="session")
def tables() -> dict[str, Table]:
    return {}


@pytest.fixture
def table(card: catalogue.Card, tables: dict[str, Table]) -> Table:
    """The smoke table of a claim, measured once a session."""
    if card.name not in tables:
        tables[card.name] = measure(card)
    return tables[card.name]


@claims
def test_a_claim_is_stated_and_its_corrections_are_those_of_its_card(card: catalogue.Card) -> None:
    claim = card.load()
    assert issubclass(claim, Claim)
    assert claim.says.strip()
    assert set(re.findall(r"E\d+", claim.correction)) == set(card.details["errata"])


@claims
def test_items_references_and_errata_exist(card: catalogue.Card) -> None:
    assert card.details["items"]
    for item in card.details["items"]:
        assert re.fullmatch(r"A([1-9]|1[0-4])(\.[1-9])?", item)
    assert set(card.details["references"]) <= set(range(1, 30))
    assert set(card.details["errata"]) <= {f"E{number}" for number in range(1, 55)}


@claims
def test_a_small_measurement_holds(card: catalogue.Card, table: Table) -> None:
    checks = card.load()().check(table)
    assert checks
    assert [check for check in checks if not check.holds] == []
    assert all(check.name and check.basis and check.low <= check.high for check in checks)
    assert len({check.name for check in checks}) == len(checks)


@claims
def test_every_check_can_fail(card: catalogue.Card) -> None:
    claim = card.load()()
    assert [check for check in claim.check(claim.refutation()) if check.holds] == []


@claims
def test_the_same_seed_gives_the_same_table(card: catalogue.Card, table: Table) -> None:
    assert measure(card) == table


@claims
def test_a_table_is_plain_and_its_columns_have_one_length(card: catalogue.Card, table: Table) -> None:
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    assert len({len(column) for column in table.values()}) == 1


@claims
def test_a_claim_is_drawn(card: catalogue.Card, table: Table) -> None:
    before = json.dumps(table)
    blocks = card.load()().draw(table)
    charts = [block for block in blocks if isinstance(block, Chart)]
    assert any(chart.spec["data"]["values"] for chart in charts) or any(isinstance(b, Cells) and b.rows for b in blocks)
    assert render(Page("a claim", blocks=blocks))
    assert json.dumps(table) == before


def test_no_name_means_every_claim(monkeypatch: pytest.MonkeyPatch, tables: dict[str, Table]) -> None:
    for card in CARDS:
        table = tables.get(card.name) or tables.setdefault(card.name, measure(card))
        monkeypatch.setattr(card.load(), "measure", lambda *_, table=table: table)
    outcomes = run_claims()
    assert [outcome.card.name for outcome in outcomes] == [card.name for card in CARDS]
    assert {outcome.status for outcome in outcomes} <= {"holds", "corrected"}
