"""Every claim is stated, cited, holds on a small budget, can be refuted, and is drawn."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from deepforward import catalogue
from deepforward.lecture import Claim, Table, measurement, run_claims
from deepforward.lecture.measurement import Key, Measurement, recall, remember
from deepforward.report import Chart, Page, render
from deepforward.report import Table as Cells

CARDS = catalogue.cards("claims")
claims = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def measure(card: catalogue.Card) -> Measurement:
    return measurement.measure(Key.of(card.name, "smoke", 0), lambda _: None)


class Tables:
    """The smoke tables of all claims, each measured once by whichever worker is first to ask, and read back by all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, card: catalogue.Card) -> Table:
        key = Key.of(card.name, "smoke", 0)
        if recall(self.folder, key) is None:
            remember(self.folder, key, measure(card))
        found = recall(self.folder, key)
        assert found is not None
        return found.table


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    own = tmp_path_factory.getbasetemp()
    return Tables((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "claims")


@pytest.fixture
def table(card: catalogue.Card, tables: Tables) -> Table:
    """The smoke table of a claim, as it was read from its file."""
    return tables[card]


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
def test_the_same_seed_gives_the_same_table_which_is_plain(
    card: catalogue.Card, table: Table, unchecked: Callable[[], AbstractContextManager[None]]
) -> None:
    """Measured anew, often in another process than the one that wrote the file, and compared with what a file holds of it.

    Whoever wrote it measured with shapes checked.
    """
    with unchecked():
        again = measure(card).table
    assert json.loads(json.dumps(again, allow_nan=False)) == again == table


@claims
def test_the_columns_of_a_table_have_one_length(card: catalogue.Card, table: Table) -> None:
    assert len({len(column) for column in table.values()}) == 1


@claims
def test_a_claim_is_drawn(card: catalogue.Card, table: Table) -> None:
    before = json.dumps(table)
    blocks = card.load()().draw(table)
    charts = [block for block in blocks if isinstance(block, Chart)]
    assert any(chart.spec["data"]["values"] for chart in charts) or any(isinstance(b, Cells) and b.rows for b in blocks)
    assert render(Page("a claim", blocks=blocks))
    assert json.dumps(table) == before


def test_no_name_means_every_claim(monkeypatch: pytest.MonkeyPatch, tables: Tables) -> None:
    for card in CARDS:
        table = tables[card]
        monkeypatch.setattr(card.load(), "measure", lambda *_, table=table: table)
    outcomes = run_claims()
    assert [outcome.card.name for outcome in outcomes] == [card.name for card in CARDS]
    assert {outcome.status for outcome in outcomes} <= {"holds", "corrected"}
