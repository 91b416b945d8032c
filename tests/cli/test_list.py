"""`deepforward list`."""

from __future__ import annotations

import json

import pytest

from deepforward import catalogue


def test_every_card_is_one_line_when_piped(deepforward) -> None:
    lines = deepforward("list").out.splitlines()
    cards = [card for kind in catalogue.KINDS for card in catalogue.cards(kind)]
    assert [line.split("\t")[:4] for line in lines] == [[card.kind, card.name, card.summary, card.source] for card in cards]


def test_json_holds_all_that_a_card_says(deepforward) -> None:
    listed = json.loads(deepforward("list", "sources", "--json").out)
    assert {card["name"]: card["details"] for card in listed} == {c.name: c.details for c in catalogue.cards("sources")}


def test_a_terminal_gets_a_table_with_every_name(deepforward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "700")
    text = deepforward("list", "models").out
    assert "what it is" in text
    assert all(card.name in text and card.summary in text for card in catalogue.cards("models"))


def test_an_unknown_kind_is_offered_its_neighbour(deepforward) -> None:
    assert deepforward("list", "modles").complaint == "unknown kind of card 'modles'; did you mean models or rules?"
