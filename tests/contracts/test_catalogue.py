"""Every card says what it is, cites where it comes from, and stands for something that imports."""

from __future__ import annotations

import re

import pytest

from deepforward import catalogue
from deepforward.errors import UnknownName

CARDS = [card for kind in catalogue.KINDS for card in catalogue.cards(kind)]


def by_name(card: catalogue.Card) -> str:
    return f"{card.kind}:{card.name}"


@pytest.mark.parametrize("card", CARDS, ids=by_name)
def test_a_card_loads(card: catalogue.Card) -> None:
    assert callable(card.load())


@pytest.mark.parametrize("card", CARDS, ids=by_name)
def test_a_card_says_in_one_line_what_it_is_and_where_it_comes_from(card: catalogue.Card) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", card.name)
    assert card.summary.strip() == card.summary != ""
    assert "\n" not in card.summary
    assert not card.summary.endswith(".")
    assert card.source.strip()


@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_every_kind_has_cards(kind: str) -> None:
    assert catalogue.cards(kind)


@pytest.mark.parametrize("card", CARDS, ids=by_name)
def test_a_typo_is_offered_its_neighbour(card: catalogue.Card) -> None:
    with pytest.raises(UnknownName) as caught:
        catalogue.load(card.kind, f"{card.name}x")
    assert card.name in caught.value.neighbours


def test_a_name_like_no_other_is_offered_all() -> None:
    with pytest.raises(UnknownName, match=r"unknown model '~'; one of: .*perceptron"):
        catalogue.load("models", "~")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean models"):
        catalogue.cards("model")
