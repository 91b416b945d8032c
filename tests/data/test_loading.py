"""Every card loads or says why not; names, paths and options are checked in one place."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import torch

from deepforward import catalogue
from deepforward.data import load
from deepforward.errors import InvalidOption, UnknownName

_BUNDLED = ["digits", "faces", "rings", "spirals", "parity", "bars-and-stripes"]


@pytest.mark.parametrize("card", catalogue.cards("sources"), ids=lambda card: card.name)
def test_every_card_tells_what_a_reader_needs(card):
    parameters = inspect.signature(card.load()).parameters.values()
    accepted = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    named = [word.partition("=")[0] for word in card.details["options"].split() if "=" in word]
    assert list(dict.fromkeys(named)) == accepted
    assert {"shape", "classes", "splits", "options", "licence", "citation"} <= set(card.details)


@pytest.mark.parametrize("name", _BUNDLED)
def test_bundled_sources_are_what_their_cards_say_and_the_same_each_time(name):
    first, second, card = load(name), load(name), catalogue.card("sources", name)
    assert card.details["shape"] == " x ".join(map(str, first.shape))
    assert card.details["classes"] == len(first.classes)
    assert card.details["splits"] == f"{len(first.train)} train, {len(first.test)} test"
    assert (first.name, first.licence, first.citation) == (name, card.details["licence"], card.details["citation"])
    assert torch.equal(first.train.inputs, second.train.inputs) and torch.equal(first.test.targets, second.test.targets)


@pytest.mark.parametrize("name", _BUNDLED)
def test_a_seed_gives_another_split(name):
    assert not torch.equal(load(name).test.inputs, load(f"{name}?seed=1").test.inputs)


def test_digits_are_all_there():
    data = load("digits?test=0.1")
    whole = torch.cat((data.train.inputs, data.test.inputs))
    # Ink and count as in scikit-learn's own description of the set: 1797 images, pixels 0 to 16, total ink 561718.
    assert (len(whole), whole.dtype, int(whole.max()), int(whole.long().sum())) == (1797, torch.uint8, 16, 561718)
    shares = torch.bincount(data.test.targets) / torch.bincount(torch.cat((data.train.targets, data.test.targets)))
    assert (shares - 0.1).abs().max() < 0.5 / 174  # the smallest class has 174 members


def test_unknown_family_offers_neighbours():
    with pytest.raises(UnknownName, match=r"unknown source 'minst'; did you mean mnist"):
        load("minst")
    with pytest.raises(UnknownName, match=r"^unknown option of rings 'nois'; did you mean noise"):
        load("rings?nois=1")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("digits?test=2", "digits: got test=2, expected a number between 0 and 1, ends excluded"),
        ("digits?seed=-1", "digits: got seed=-1, expected a whole number between 0 and"),
        ("digits:here", "digits: got the path 'here', expected none"),
        ("idx", "idx: got no path, expected idx:PATH"),
        ("folder:", "folder: got no path, expected folder:PATH"),
        ("table:t.csv", "table: option 'target' is missing"),
        ("rings?n=1", "rings: got n=1, expected a whole number between 8 and 100000000"),
        ("parity?bits=99", "parity: got bits=99, expected a whole number between 3 and 20"),
    ],
)
def test_wrong_specifications_say_what_is_accepted(spec, says):
    with pytest.raises(InvalidOption) as caught:
        load(spec)
    assert str(caught.value).startswith(says) and "\n" not in str(caught.value)


def test_cards_are_read_without_torch():
    code = "import sys; from deepforward import catalogue; catalogue.cards('sources'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
