import pytest
import torch

from deepforward.clinic import random_change as drawing
from deepforward.clinic.random_change import random_change
from deepforward.data import load
from deepforward.engine import Recipe
from deepforward.errors import NoEffect
from tests.clinic.energy_examples import RECIPE as MACHINE

RECIPE = Recipe(model="perceptron", model_options={"depth": 3, "width": 8}, threads=1).complete()


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def drawn(seed, data, recipe=RECIPE):
    return random_change(recipe, data, torch.Generator().manual_seed(seed))


def test_one_thing_changes_and_is_told(digits):
    for seed in range(12):
        words, changed = drawn(seed, digits)
        (field,) = RECIPE.differences(changed)
        assert (changed.alterations[-1] if field == "alterations" else field) in words


def test_the_seed_fixes_the_change_and_others_differ(digits):
    assert drawn(3, digits) == drawn(3, digits)
    assert len({drawn(seed, digits)[0] for seed in range(8)}) > 4


def test_every_kind_of_change_fits_some_network(digits):
    kinds = {RECIPE.differences(RECIPE.replace(**change(RECIPE, torch.Generator().manual_seed(0))))[0]
             for change in drawing._CHANGES.values()}  # fmt: skip
    assert kinds == {"alterations", "learning_rate", "batch_size", "clip", "weight_decay", "scaling"}


def test_what_does_not_fit_is_drawn_again(bars):
    """A restricted Boltzmann machine has no hidden layers to normalise, to skip or to give another activation."""
    for seed in range(6):
        _, changed = drawn(seed, bars, MACHINE.complete())
        assert "alterations" not in MACHINE.complete().differences(changed)


def test_a_network_that_nothing_fits_is_said_to_be_one(digits, monkeypatch):
    monkeypatch.setattr(drawing, "_CHANGES", {"nothing": lambda recipe, rng: {}})
    with pytest.raises(NoEffect, match="none of 50 random changes"):
        drawn(0, digits)
